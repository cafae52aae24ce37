package proxy

// CheckPattern tells what is wrong with a pattern of methods or a route, or nil.
func CheckPattern(s string) error {
	_, err := parsePattern(s)
	return err
}

// CheckOutcome tells what is wrong with a status code's name or with the word for what it means, or nil.
func CheckOutcome(name, word string) error {
	_, _, err := parseOutcome(name, word)
	return err
}

// CheckTarget tells what is wrong with a target, or nil.
func CheckTarget(s string) error {
	_, err := parseTarget(s)
	return err
}
