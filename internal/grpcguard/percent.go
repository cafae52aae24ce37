package grpcguard

import (
	"strings"
	"unicode/utf8"
)

// percentEncoded returns a message as gRPC writes it into a field: printable ASCII but for '%' as it is, all other bytes of its UTF-8 as
// '%' and two hexadecimal digits.
func percentEncoded(s []byte) string {
	n := 0
	for _, c := range s {
		if !isLiteral(c) {
			n++
		}
	}
	if n == 0 {
		return string(s)
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+2*n)
	for _, c := range s {
		if isLiteral(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

func isLiteral(c byte) bool { return ' ' <= c && c <= '~' && c != '%' }

// DecodeMessage undoes the percent-encoding of a grpc-message. As gRPC asks for, it never fails: a '%' without two hexadecimal digits stays
// as it is. What is not UTF-8 is replaced by U+FFFD.
func DecodeMessage(s string) string {
	if !strings.Contains(s, "%") {
		return strings.ToValidUTF8(s, string(utf8.RuneError))
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if c, ok := escaped(s[i:]); ok {
			b = append(b, c)
			i += 2
		} else {
			b = append(b, s[i])
		}
	}
	return strings.ToValidUTF8(string(b), string(utf8.RuneError))
}

// percentDecoded undoes the percent-encoding of baggage. Unlike that of forms, '+' is a plus. A '%' without two hexadecimal digits is
// broken.
func percentDecoded(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c, ok := escaped(s[i:])
		switch {
		case ok:
			b = append(b, c)
			i += 2
		case s[i] == '%':
			return "", false
		default:
			b = append(b, s[i])
		}
	}
	return string(b), true
}

// escaped returns the byte that s begins with if that is escaped: '%' and two hexadecimal digits.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	hi, ok1 := hexDigit(s[1])
	lo, ok2 := hexDigit(s[2])
	return hi<<4 | lo, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
