package admin

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// condition is one comparison of a filter.
type condition struct {
	field string
	equal bool
	value string
}

const filterHelp = "conditions are joined by AND, each is `field = value` or `field != value` with the field state, name or actor, " +
	"e.g. state != STATE_ON AND actor = \"anna\""

// parseFilter reads conditions joined by AND. An empty filter has none.
func parseFilter(text string) ([]condition, error) {
	var cs []condition
	rest := strings.TrimSpace(text)
	for rest != "" {
		c, after, err := parseCondition(rest)
		if err != nil {
			return nil, err
		}
		cs = append(cs, c)
		if rest = after; rest == "" {
			break
		}
		word, next := leading(rest, func(r rune) bool { return !unicode.IsSpace(r) })
		if rest = strings.TrimSpace(next); word != "AND" || rest == "" {
			return nil, invalid("filter", "after %q comes %q; %s", c.field+" …", word, filterHelp)
		}
	}
	return cs, nil
}

// parseCondition reads one condition and returns what follows it.
func parseCondition(text string) (c condition, rest string, err error) {
	var operator string
	c.field, rest = leading(text, func(r rune) bool { return r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r) })
	operator, rest = leading(strings.TrimSpace(rest), func(r rune) bool { return strings.ContainsRune("=!<>:~", r) })
	if !slices.Contains([]string{"state", "name", "actor"}, c.field) {
		return c, "", invalid("filter", "there is no field %q; %s", c.field, filterHelp)
	}
	if operator != "=" && operator != "!=" {
		return c, "", invalid("filter", "there is no operator %q after %s; %s", operator, c.field, filterHelp)
	}
	c.equal = operator == "="
	c.value, rest, err = parseValue(strings.TrimSpace(rest))
	if err != nil {
		return c, "", err
	}
	if err := c.check(); err != nil {
		return c, "", err
	}
	return c, strings.TrimSpace(rest), nil
}

// parseValue reads a quoted text or a bare word.
func parseValue(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		value, rest = leading(text, func(r rune) bool { return !unicode.IsSpace(r) })
		if value == "" {
			return "", "", invalid("filter", "a value is missing at the end; %s", filterHelp)
		}
		return value, rest, nil
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", invalid("filter", "the quote of %s does not end; %s", text, filterHelp)
	}
	value, err = strconv.Unquote(quoted)
	if err != nil {
		return "", "", invalid("filter", "%s is not a quoted text; %s", quoted, filterHelp)
	}
	return value, text[len(quoted):], nil
}

// check refuses states that no flag can have: such a filter would be silently empty.
func (c *condition) check() error {
	if c.field == "name" {
		c.value = strings.TrimPrefix(c.value, flagPrefix)
	}
	if c.field == "state" && capguardv1.Flag_State_value[c.value] == 0 {
		return invalid("filter", "there is no state %q; the states are STATE_ON, STATE_OFF and STATE_DIMMED", c.value)
	}
	return nil
}

func (c condition) match(f *capguardv1.Flag) bool {
	var have string
	switch c.field {
	case "state":
		have = f.GetState().String()
	case "name":
		have = strings.TrimPrefix(f.GetName(), flagPrefix)
	case "actor":
		have = f.GetActor()
	}
	return (have == c.value) == c.equal
}

// leading splits text after the leading runes that are in.
func leading(text string, in func(rune) bool) (head, tail string) {
	if i := strings.IndexFunc(text, func(r rune) bool { return !in(r) }); i >= 0 {
		return text[:i], text[i:]
	}
	return text, ""
}
