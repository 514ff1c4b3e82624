package soultribe

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxEmailBytes is the longest address that a mail server must take (RFC 5321, 4.5.3.1.3, less the brackets).
	maxEmailBytes = 254
	// maxEmailLocalBytes is the longest part before the @ (RFC 5321, 4.5.3.1.1).
	maxEmailLocalBytes = 64
	// maxDomainLabelBytes is the longest part between the dots of a domain (RFC 1035, 2.3.4).
	maxDomainLabelBytes = 63

	minPasswordBytes = 8
	maxPasswordBytes = 1024 // far beyond a passphrase, far below what would be work to hash

	maxNameRunes = 200
	maxBioRunes  = 10_000
)

// checkID refuses the zero id, which is always a mistake. Other ids that cannot be are merely not found.
func checkID[ID ~int64](field string, id ID) error {
	if id == 0 {
		return invalid(field, "is required")
	}
	return nil
}

// newEmail returns an address as it is stored: trimmed, the spelling as given.
func newEmail(email string) (string, error) {
	email = strings.TrimSpace(email)
	switch {
	case email == "":
		return "", invalid("email", "is required")
	case len(email) > maxEmailBytes:
		return "", invalid("email", fmt.Sprintf("must have at most %d bytes", maxEmailBytes))
	case !utf8.ValidString(email) || strings.ContainsFunc(email, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }):
		return "", invalid("email", "must not have spaces or control characters")
	}
	// A bare address: no display name, comment, brackets or quotes, none of which a mailer needs.
	parsed, err := mail.ParseAddress(email)
	at := strings.LastIndexByte(email, '@')
	if err != nil || parsed.Name != "" || parsed.Address != email || at > maxEmailLocalBytes || !isDomain(email[at+1:]) {
		return "", invalid("email", "is not an address")
	}
	return email, nil
}

// isDomain tells whether s is made of labels as the domain name system has them (RFC 1035, 2.3.1), or of
// other letters (RFC 6531); underscores are seen. The parser of net/mail takes for a domain what is a part of a URL elsewhere.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxDomainLabelBytes || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			ascii := r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
			if r < utf8.RuneSelf && !ascii {
				return false
			}
		}
	}
	return true
}

// lookupEmail returns an address as it is looked up. What is stored may be older than newEmail's rules.
func lookupEmail(email string) (string, error) {
	email = strings.TrimSpace(email)
	if email == "" || len(email) > maxEmailBytes || !storable(email) {
		return "", invalid("email", "is not an address")
	}
	return email, nil
}

func checkNewPassword(password string) error {
	switch {
	case len(password) < minPasswordBytes:
		return invalid("password", fmt.Sprintf("must have at least %d bytes", minPasswordBytes))
	case len(password) > maxPasswordBytes:
		return invalid("password", fmt.Sprintf("must have at most %d bytes", maxPasswordBytes))
	case strings.ContainsRune(password, 0):
		return invalid("password", "must not have NUL bytes")
	}
	return nil
}

// storable tells whether PostgreSQL takes s as text.
func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// newName returns a name as it is stored, trimmed and of one line.
func newName(field, name string) (string, error) {
	// The length comes first: nothing else looks at megabytes.
	switch name = strings.TrimSpace(name); {
	case len(name) > maxNameRunes*utf8.UTFMax || utf8.RuneCountInString(name) > maxNameRunes:
		return "", invalid(field, fmt.Sprintf("must have at most %d characters", maxNameRunes))
	case !utf8.ValidString(name) || hasControl(name):
		return "", invalid(field, "must be UTF-8 without control characters")
	}
	return name, nil
}

func newDisplayName(name string) (string, error) {
	name, err := newName("display_name", name)
	if err == nil && name == "" {
		return "", invalid("display_name", "is required")
	}
	return name, err
}

func checkBio(bio string) error {
	switch {
	case len(bio) > maxBioRunes*utf8.UTFMax || utf8.RuneCountInString(bio) > maxBioRunes:
		return invalid("bio", fmt.Sprintf("must have at most %d characters", maxBioRunes))
	case !storable(bio):
		return invalid("bio", "must be UTF-8 without NUL bytes")
	}
	return nil
}

// horizon returns a span of time with its defaults: from now, for length.
func horizon(from, to, now time.Time, length time.Duration) (Window, error) {
	if from.IsZero() {
		from = now
	}
	if to.IsZero() {
		to = from.Add(length)
	}
	w := Window{from.UTC().Truncate(time.Microsecond), to.UTC().Truncate(time.Microsecond)}
	err := errors.Join(checkTime("from", w.Start), checkTime("to", w.End))
	switch {
	case err != nil:
		return Window{}, err
	case !w.Start.Before(w.End):
		return Window{}, invalid("to", "must be after from")
	case w.End.Sub(w.Start) > maxHorizon:
		return Window{}, invalid("to", "must be within 366 days of from")
	}
	return w, nil
}

const maxHorizon = 366 * 24 * time.Hour

// checkTime refuses what PostgreSQL, or JSON, cannot hold.
func checkTime(field string, t time.Time) error {
	if t.Before(firstTime) || t.After(lastTime) {
		return invalid(field, "must be between the years 1 and 9999")
	}
	return nil
}
