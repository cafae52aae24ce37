package admin

import (
	"slices"

	"github.com/capguard/capguard/featureflags"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// updateCommand turns an UpdateFlag request into a command: what the mask names, or without one what the flag has. It refuses a request
// that would be answered OK and change nothing that the operator wrote down.
func updateCommand(req *capguardv1.UpdateFlagRequest) (featureflags.Command, error) {
	flag := req.GetFlag()
	c := featureflags.Command{
		Action: featureflags.Update, Name: flag.GetName(), Etag: flag.GetEtag(),
		ValidateOnly: req.GetValidateOnly(), RequestID: req.GetRequestId(), AllowMissing: req.GetAllowMissing(),
	}
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		paths = present(flag)
	}
	if len(paths) == 0 {
		return c, invalid("flag", "it has none of description, percent, reason, so there is nothing to change; "+
			"to switch use DisableFlag, EnableFlag or DimFlag")
	}
	if slices.Contains(paths, "*") {
		if len(paths) > 1 {
			return c, invalid("update_mask", "`*` stands alone")
		}
		paths = []string{"description", "percent", "reason"}
	}
	for _, path := range paths {
		if err := take(&c, flag, path); err != nil {
			return c, err
		}
	}
	return c, nil
}

// take sets one field of c from flag.
func take(c *featureflags.Command, flag *capguardv1.Flag, path string) error {
	switch path {
	case "description":
		c.Description = new(flag.GetDescription())
	case "reason":
		c.Reason = new(flag.GetReason())
	case "percent":
		if flag.Percent == nil {
			return invalid("flag.percent", "update_mask names it, but it has no value; say 0 for off, 100 for on")
		}
		c.Percent = flag.Percent
	case "state":
		return invalid("update_mask", "state follows from percent; use DisableFlag, EnableFlag or DimFlag")
	default:
		return invalid("update_mask", "%q cannot be changed; description, percent and reason can, `*` means all three", path)
	}
	return nil
}

// present returns the changeable fields that have a value.
func present(flag *capguardv1.Flag) []string {
	var paths []string
	if flag.GetDescription() != "" {
		paths = append(paths, "description")
	}
	if flag != nil && flag.Percent != nil {
		paths = append(paths, "percent")
	}
	if flag.GetReason() != "" {
		paths = append(paths, "reason")
	}
	return paths
}
