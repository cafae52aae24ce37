package core

import (
	"errors"

	"github.com/sony/gobreaker/v2"
)

// gobreakers are of github.com/sony/gobreaker/v2 with its default settings.
var gobreakers = []Contestant{{
	Name: "gobreaker",
	Admit: func() func() bool {
		b := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{})
		return func() bool { return twoStep(b, nil) }
	},
	Refuse: func() func() bool {
		b := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{})
		for range 10 {
			twoStep(b, errors.New("broken"))
		}
		return func() bool { return twoStep(b, nil) }
	},
}}

func twoStep(b *gobreaker.TwoStepCircuitBreaker[any], outcome error) bool {
	done, err := b.Allow()
	if err != nil {
		return false
	}
	done(outcome)
	return true
}
