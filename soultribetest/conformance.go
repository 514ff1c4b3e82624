package soultribetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soultribe-chat/soultribe"
)

// NewStore makes a Store on an empty database, with the options given after its own, and returns it with
// the clock that it goes by, which shows [Epoch].
type NewStore func(t *testing.T, opts ...soultribe.Option) (soultribe.Store, *Clock)

// TestStore checks that a Store keeps the contract of [soultribe.Store]: the rules, the errors and the
// steps of every method. Implementations run it, and so do decorators, to see that they break nothing.
// It calls newStore once for each of its subtests, which run in parallel, and uses a Store from one
// goroutine, so that one on a connection or in a transaction can be tested.
func TestStore(t *testing.T, newStore NewStore) {
	groups := []struct {
		name  string
		tests []conformanceTest
	}{
		{"Users", userTests},
		{"Tokens", tokenTests},
		{"Availability", availabilityTests},
		{"Matches", matchTests},
		{"Meetups", meetupTests},
		{"Maintenance", maintenanceTests},
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					store, clock := newStore(t, test.options...)
					test.run(&conformance{T: t, st: store, clock: clock})
				})
			}
		})
	}
}

// conformanceTest is one property of a Store.
type conformanceTest struct {
	name    string
	options []soultribe.Option
	run     func(c *conformance)
}

// conformance is a running conformanceTest.
type conformance struct {
	*testing.T
	st    soultribe.Store
	clock *Clock
	users int
}

// at returns a time counted from [Epoch].
func at(d time.Duration) time.Time { return Epoch.Add(d) }

// newUser makes a user whose address is not verified, with the password "password of " and the address.
func (c *conformance) newUser(name string) soultribe.User {
	c.Helper()
	c.users++
	email := fmt.Sprintf("%s%d@example.org", name, c.users)
	u, err := c.st.CreateUser(c.Context(), soultribe.NewUser{
		Email:    email,
		Password: "password of " + email,
		Profile:  &soultribe.NewProfile{FullName: "Full " + name, DisplayName: name, Timezone: "Europe/Vienna"},
	})
	c.noError(err)
	return u
}

// user makes a user whose address is verified.
func (c *conformance) user(name string) soultribe.User {
	c.Helper()
	u := c.newUser(name)
	c.noError(c.st.MarkVerified(c.Context(), u.ID))
	u, err := c.st.User(c.Context(), u.ID)
	c.noError(err)
	return u
}

// matched makes an accepted match, for which a asked.
func (c *conformance) matched(a, b soultribe.UserID) soultribe.Match {
	c.Helper()
	m, err := c.st.RequestMatch(c.Context(), a, b)
	c.noError(err)
	m, err = c.st.AcceptMatch(c.Context(), b, m.ID)
	c.noError(err)
	return m.Match
}

// slot is a slot of so many hours from so many after [Epoch].
func slot(after, hours float64) soultribe.NewSlot {
	start := at(time.Duration(after * float64(time.Hour)))
	return soultribe.NewSlot{Start: start, End: start.Add(time.Duration(hours * float64(time.Hour))), Timezone: "Europe/Vienna"}
}

func (c *conformance) noError(err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("unexpected error: %v", err)
	}
}

// wantError checks that err is each of targets, and that nothing secret stands in its text.
func (c *conformance) wantError(err error, targets ...error) {
	c.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			c.Fatalf("error is %v, not %v", err, target)
		}
	}
	if strings.Contains(err.Error(), "@example.org") || strings.Contains(err.Error(), "password of") {
		c.Fatalf("error tells a secret: %v", err)
	}
}

// wantInvalid checks that err is ErrInvalid for exactly the fields.
func (c *conformance) wantInvalid(err error, fields ...string) {
	c.Helper()
	c.wantError(err, soultribe.ErrInvalid)
	var got []string
	for _, v := range soultribe.ValidationErrors(err) {
		got = append(got, v.Field)
	}
	if !slices.Equal(got, fields) {
		c.Fatalf("invalid are %v, not %v: %v", got, fields, err)
	}
}

// equal checks that two values are deeply equal. Times are compared as Go values: the Store returns UTC.
func equal[T any](c *conformance, got, want T) {
	c.Helper()
	if !reflect.DeepEqual(got, want) {
		c.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// all walks a list in pages of one size.
func all[T any](c *conformance, page func(after soultribe.Cursor) (soultribe.Page[T], error)) []T {
	c.Helper()
	items := []T{}
	for item, err := range soultribe.All(page) {
		c.noError(err)
		items = append(items, item)
	}
	return items
}
