package soultribe_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soultribe-chat/soultribe"
)

// society is what the library should do, written from its documentation alone: slices, and the rules over
// them. It is told the ids and secrets that the store made; all else it must know itself.
type society struct {
	now     time.Time
	users   []*account // in order of creation; who was deleted stays, with gone set
	slots   []*soultribe.Slot
	tokens  []*token
	matches []*soultribe.Match
	meetups []*soultribe.Meetup
}

type account struct {
	soultribe.User
	password string
	gone     bool
}

type token struct {
	kind             tokenKind
	user             soultribe.UserID
	email, secret    string
	created, expires time.Time
	used             bool
}

type tokenKind string

const (
	verification  tokenKind = "verification"
	emailChange   tokenKind = "change of address"
	passwordReset tokenKind = "reset"
)

const (
	tokenCooldown     = time.Minute
	rejectedCooldown  = 30 * 24 * time.Hour
	cancelledCooldown = 24 * time.Hour
)

// The users.

func (w *society) user(id soultribe.UserID) *account {
	for _, u := range w.users {
		if u.ID == id && !u.gone {
			return u
		}
	}
	return nil
}

func (w *society) userByEmail(email string) *account {
	for _, u := range w.users {
		if !u.gone && strings.EqualFold(u.Email, email) {
			return u
		}
	}
	return nil
}

func (w *society) createUser(id soultribe.UserID, email, password string) (soultribe.User, error) {
	if len(password) < 8 {
		return soultribe.User{}, soultribe.ErrInvalid
	}
	if w.userByEmail(email) != nil {
		return soultribe.User{}, soultribe.ErrEmailTaken
	}
	u := soultribe.User{ID: id, Email: email, CreatedAt: w.now, CredentialsChangedAt: w.now}
	w.users = append(w.users, &account{User: u, password: password})
	return u, nil
}

func (w *society) authenticate(email, password string) (soultribe.User, error) {
	u := w.userByEmail(email)
	if u == nil || u.password != password {
		return soultribe.User{}, soultribe.ErrInvalidCredentials
	}
	return u.User, nil
}

func (w *society) changePassword(id soultribe.UserID, current, next string) error {
	u := w.user(id)
	switch {
	case len(next) < 8:
		return soultribe.ErrInvalid
	case u == nil:
		return soultribe.ErrNotFound
	case u.password != current:
		return soultribe.ErrInvalidCredentials
	}
	w.setPassword(u, next)
	return nil
}

// setPassword ends everything that a thief of the old password could have begun.
func (w *society) setPassword(u *account, password string) {
	u.password, u.CredentialsChangedAt = password, w.now
	w.kill(u.ID, func(t *token) bool { return t.kind == passwordReset || t.kind == emailChange })
}

func (w *society) markVerified(id soultribe.UserID) error {
	u := w.user(id)
	if u == nil {
		return soultribe.ErrNotFound
	}
	w.verify(u)
	return nil
}

// verify keeps the time of an address that is verified already.
func (w *society) verify(u *account) {
	if u.EmailVerifiedAt == nil {
		now := w.now
		u.EmailVerifiedAt = &now
	}
}

func (w *society) deleteUser(id soultribe.UserID) (soultribe.Deleted, error) {
	u := w.user(id)
	if u == nil {
		return soultribe.Deleted{}, soultribe.ErrNotFound
	}
	u.gone = true
	d := soultribe.Deleted{UserID: id}
	w.slots = slices.DeleteFunc(w.slots, func(s *soultribe.Slot) bool { return s.UserID == id })
	w.matches = slices.DeleteFunc(w.matches, func(m *soultribe.Match) bool {
		if pairs(m, id) && (m.Status == soultribe.MatchPending || m.Status == soultribe.MatchAccepted) {
			d.Matches = append(d.Matches, *m)
		}
		return pairs(m, id)
	})
	w.meetups = slices.DeleteFunc(w.meetups, func(m *soultribe.Meetup) bool {
		if of(m, id) && live(m) {
			d.Meetups = append(d.Meetups, *m)
		}
		return of(m, id)
	})
	return d, nil
}

// The tokens.

// issue makes a token, unless one of its table was made for the account a moment ago.
func (w *society) issue(kind tokenKind, u *account, email, secret string, lifetime time.Duration) (*token, error) {
	for _, t := range w.tokens {
		if until := t.created.Add(tokenCooldown); t.user == u.ID && siblings(t.kind, kind) && w.now.Before(until) {
			return nil, &soultribe.CooldownError{Until: until}
		}
	}
	t := &token{kind: kind, user: u.ID, email: email, secret: secret, created: w.now, expires: w.now.Add(lifetime)}
	w.tokens = append(w.tokens, t)
	return t, nil
}

// siblings: the confirmation of an address is one kind of mail, whether it is the first address or the next.
func siblings(a, b tokenKind) bool { return (a == passwordReset) == (b == passwordReset) }

func (w *society) kill(id soultribe.UserID, which func(t *token) bool) {
	for _, t := range w.tokens {
		if t.user == id && which(t) {
			t.used = true
		}
	}
}

func (w *society) issueEmailVerification(id soultribe.UserID, secret string) (*token, error) {
	u := w.user(id)
	switch {
	case u == nil:
		return nil, soultribe.ErrNotFound
	case u.EmailVerifiedAt != nil:
		return nil, soultribe.ErrAlreadyVerified
	}
	return w.issue(verification, u, u.Email, secret, 24*time.Hour)
}

func (w *society) issueEmailChange(id soultribe.UserID, password, email, secret string) (*token, error) {
	u := w.user(id)
	switch {
	case u == nil:
		return nil, soultribe.ErrNotFound
	case u.password != password:
		return nil, soultribe.ErrInvalidCredentials
	case u.Email == email:
		return nil, soultribe.ErrInvalid
	}
	if other := w.userByEmail(email); other != nil && other != u {
		return nil, soultribe.ErrEmailTaken
	}
	return w.issue(emailChange, u, email, secret, 24*time.Hour)
}

func (w *society) issuePasswordReset(email, secret string) (*token, bool) {
	u := w.userByEmail(email)
	if u == nil {
		return nil, false
	}
	t, err := w.issue(passwordReset, u, u.Email, secret, time.Hour)
	return t, err == nil
}

// redeemable finds the token of a secret that works.
func (w *society) redeemable(secret string, kinds ...tokenKind) (*token, error) {
	for _, t := range w.tokens {
		switch {
		case t.secret != secret || !slices.Contains(kinds, t.kind) || w.user(t.user) == nil:
		case t.used:
			return nil, soultribe.ErrTokenUsed
		case !t.expires.After(w.now):
			return nil, soultribe.ErrTokenExpired
		default:
			return t, nil
		}
	}
	return nil, soultribe.ErrTokenInvalid
}

func (w *society) checkEmailVerification(secret string) (*token, error) {
	t, err := w.redeemable(secret, verification, emailChange)
	if err != nil {
		return nil, err
	}
	if other := w.userByEmail(t.email); other != nil && other.ID != t.user {
		return nil, soultribe.ErrEmailTaken
	}
	return t, nil
}

func (w *society) verifyEmail(secret string) (soultribe.User, error) {
	t, err := w.checkEmailVerification(secret)
	if err != nil {
		return soultribe.User{}, err
	}
	u := w.user(t.user)
	w.kill(u.ID, func(t *token) bool { return t.kind != passwordReset })
	if u.Email != t.email {
		w.kill(u.ID, func(t *token) bool { return t.kind == passwordReset })
		u.Email, u.EmailVerifiedAt = t.email, nil
	}
	w.verify(u)
	return u.User, nil
}

func (w *society) resetPassword(secret, password string) (soultribe.User, error) {
	if len(password) < 8 {
		return soultribe.User{}, soultribe.ErrInvalid
	}
	t, err := w.redeemable(secret, passwordReset)
	if err != nil {
		return soultribe.User{}, err
	}
	u := w.user(t.user)
	w.setPassword(u, password)
	if u.Email == t.email {
		w.verify(u)
	}
	return u.User, nil
}

// The slots.

// checkSlots judges the slots by themselves: what can never be right comes before what is too late.
func (w *society) checkSlots(slots []soultribe.NewSlot) error {
	for _, s := range slots {
		if d := s.End.Sub(s.Start); d < 15*time.Minute || d > 24*time.Hour {
			return soultribe.ErrInvalid
		}
	}
	for _, s := range slots {
		if !s.End.After(w.now) {
			return soultribe.ErrPast
		}
	}
	var late overlaps
	for i, s := range slots {
		if slices.ContainsFunc(slots[:i], func(before soultribe.NewSlot) bool { return overlap(before.Start, before.End, s.Start, s.End) }) {
			late = append(late, i)
		}
	}
	return late.err()
}

// overlaps are the slots that overlap another. The store names any one of them.
type overlaps []int

func (o overlaps) err() error {
	if len(o) == 0 {
		return nil
	}
	return o
}

func (o overlaps) Error() string { return fmt.Sprint("overlap of one of slots ", []int(o)) }
func (o overlaps) Unwrap() error { return soultribe.ErrSlotOverlap }

func (w *society) addSlots(ids []soultribe.SlotID, actor soultribe.UserID, slots []soultribe.NewSlot) ([]soultribe.Slot, error) {
	if err := w.checkSlots(slots); err != nil {
		return nil, err
	}
	if w.user(actor) == nil {
		return nil, soultribe.ErrNotFound
	}
	var taken overlaps
	for i, s := range slots {
		if w.taken(actor, 0, s) {
			taken = append(taken, i)
		}
	}
	if taken != nil {
		return nil, taken
	}
	added := []soultribe.Slot{}
	for i, s := range slots {
		slot := soultribe.Slot{UserID: actor, Start: s.Start, End: s.End, Timezone: s.Timezone, CreatedAt: w.now, UpdatedAt: w.now}
		if i < len(ids) {
			slot.ID = ids[i]
		}
		w.slots = append(w.slots, &slot)
		added = append(added, slot)
	}
	return added, nil
}

// replaceSlots puts everything back where the new slots do not fit.
func (w *society) replaceSlots(ids []soultribe.SlotID, actor soultribe.UserID, window soultribe.Window, slots []soultribe.NewSlot) ([]soultribe.Slot, error) {
	starts := func(start time.Time) bool { return !start.Before(window.Start) && start.Before(window.End) }
	if slices.ContainsFunc(slots, func(s soultribe.NewSlot) bool { return !starts(s.Start) }) {
		return nil, soultribe.ErrInvalid
	}
	before := slices.Clone(w.slots)
	w.slots = slices.DeleteFunc(w.slots, func(s *soultribe.Slot) bool { return s.UserID == actor && starts(s.Start) })
	added, err := w.addSlots(ids, actor, slots)
	if err != nil {
		w.slots = before
	}
	return added, err
}

func (w *society) updateSlot(actor soultribe.UserID, id soultribe.SlotID, n soultribe.NewSlot) (soultribe.Slot, error) {
	s := w.slot(actor, id)
	err := w.checkSlots([]soultribe.NewSlot{n})
	switch {
	case err != nil:
		return soultribe.Slot{}, err
	case s == nil:
		return soultribe.Slot{}, soultribe.ErrNotFound
	case w.taken(actor, id, n):
		return soultribe.Slot{}, overlaps{0}
	}
	s.Start, s.End, s.Timezone, s.UpdatedAt = n.Start, n.End, n.Timezone, w.now
	return *s, nil
}

func (w *society) deleteSlot(actor soultribe.UserID, id soultribe.SlotID) error {
	s := w.slot(actor, id)
	if s == nil {
		return soultribe.ErrNotFound
	}
	w.slots = slices.DeleteFunc(w.slots, func(other *soultribe.Slot) bool { return other == s })
	return nil
}

func (w *society) slot(actor soultribe.UserID, id soultribe.SlotID) *soultribe.Slot {
	for _, s := range w.slots {
		if s.ID == id && s.UserID == actor {
			return s
		}
	}
	return nil
}

func (w *society) taken(actor soultribe.UserID, except soultribe.SlotID, n soultribe.NewSlot) bool {
	return slices.ContainsFunc(w.slots, func(s *soultribe.Slot) bool {
		return s.UserID == actor && s.ID != except && overlap(s.Start, s.End, n.Start, n.End)
	})
}

func overlap(aStart, aEnd, bStart, bEnd time.Time) bool {
	return aStart.Before(bEnd) && bStart.Before(aEnd)
}

// mutual cuts the horizon at every time at which anything changes, keeps the pieces in which both are
// free and none of busy has a confirmed meetup, and glues neighbours together.
func (w *society) mutual(a, b soultribe.UserID, from, to time.Time, atLeast time.Duration, busy ...soultribe.UserID) []soultribe.Window {
	cuts := []time.Time{from, to}
	for _, s := range w.slots {
		cuts = append(cuts, s.Start, s.End)
	}
	for _, m := range w.meetups {
		cuts = append(cuts, m.Start, end(m))
	}
	slices.SortFunc(cuts, time.Time.Compare)
	windows := []soultribe.Window{}
	for i, start := range cuts[:len(cuts)-1] {
		piece := soultribe.Window{Start: start, End: cuts[i+1]}
		if start.Before(from) || piece.End.After(to) || !start.Before(piece.End) ||
			!w.free(a, piece) || !w.free(b, piece) || w.booked(piece, busy) {
			continue
		}
		if last := len(windows) - 1; last >= 0 && windows[last].End.Equal(start) {
			windows[last].End = piece.End
		} else {
			windows = append(windows, piece)
		}
	}
	return slices.DeleteFunc(windows, func(w soultribe.Window) bool { return w.End.Sub(w.Start) < atLeast })
}

func (w *society) free(id soultribe.UserID, piece soultribe.Window) bool {
	return slices.ContainsFunc(w.slots, func(s *soultribe.Slot) bool {
		return s.UserID == id && overlap(s.Start, s.End, piece.Start, piece.End)
	})
}

func (w *society) booked(piece soultribe.Window, busy []soultribe.UserID) bool {
	return slices.ContainsFunc(w.meetups, func(m *soultribe.Meetup) bool {
		return m.Status == soultribe.MeetupConfirmed && overlap(m.Start, end(m), piece.Start, piece.End) &&
			slices.ContainsFunc(busy, func(id soultribe.UserID) bool { return of(m, id) })
	})
}

const fortnight = 14 * 24 * time.Hour

// candidates returns them in any order.
func (w *society) candidates(actor soultribe.UserID) ([]soultribe.Candidate, error) {
	if w.user(actor) == nil {
		return nil, soultribe.ErrNotFound
	}
	found := []soultribe.Candidate{}
	for _, u := range w.users {
		windows := w.mutual(actor, u.ID, w.now, w.now.Add(fortnight), time.Hour, actor)
		if u.gone || u.ID == actor || u.EmailVerifiedAt == nil || len(windows) == 0 {
			continue
		}
		if m := w.between(actor, u.ID); m != nil &&
			(m.Status != soultribe.MatchCancelled || w.now.Before(m.UpdatedAt.Add(cancelledCooldown))) {
			continue
		}
		c := soultribe.Candidate{UserID: u.ID}
		for _, window := range windows {
			c.Total += window.End.Sub(window.Start)
		}
		c.Windows = windows[:min(len(windows), 5)]
		found = append(found, c)
	}
	return found, nil
}

// The matches.

// pairs tells whether a person is one of a match's two.
func pairs(m *soultribe.Match, id soultribe.UserID) bool { return m.User1ID == id || m.User2ID == id }

func (w *society) between(a, b soultribe.UserID) *soultribe.Match {
	for _, m := range w.matches {
		if pairs(m, a) && pairs(m, b) {
			return m
		}
	}
	return nil
}

func (w *society) match(actor soultribe.UserID, id soultribe.MatchID) *soultribe.Match {
	for _, m := range w.matches {
		if m.ID == id && pairs(m, actor) {
			return m
		}
	}
	return nil
}

func (w *society) moveMatch(m *soultribe.Match, to soultribe.MatchStatus) (soultribe.MatchResult, error) {
	m.Status, m.UpdatedAt = to, w.now
	return soultribe.MatchResult{Match: *m, Changed: true}, nil
}

func (w *society) requestMatch(id soultribe.MatchID, actor, to soultribe.UserID) (soultribe.MatchResult, error) {
	none := soultribe.MatchResult{}
	a, b := w.user(actor), w.user(to)
	switch {
	case actor == to:
		return none, soultribe.ErrInvalid
	case a == nil:
		return none, soultribe.ErrNotFound
	case a.EmailVerifiedAt == nil:
		return none, soultribe.ErrUnverified
	case b == nil || b.EmailVerifiedAt == nil:
		return none, soultribe.ErrNotFound
	}
	m := w.between(actor, to)
	if m == nil {
		m = &soultribe.Match{ID: id, User1ID: actor, User2ID: to, CreatedAt: w.now}
		w.matches = append(w.matches, m)
		return w.moveMatch(m, soultribe.MatchPending)
	}
	var until time.Time
	switch {
	case m.Status == soultribe.MatchPending && m.User2ID == actor:
		return w.moveMatch(m, soultribe.MatchAccepted)
	case m.Status == soultribe.MatchPending || m.Status == soultribe.MatchAccepted:
		return soultribe.MatchResult{Match: *m}, nil
	case m.Status == soultribe.MatchRejected && m.User1ID == actor:
		until = m.UpdatedAt.Add(rejectedCooldown)
	case m.Status == soultribe.MatchCancelled:
		until = m.UpdatedAt.Add(cancelledCooldown)
	}
	if w.now.Before(until) {
		return none, &soultribe.CooldownError{Until: until}
	}
	m.User1ID, m.User2ID = actor, to
	for _, meetup := range w.meetups { // which tell whose match they belong to
		if meetup.MatchID == m.ID {
			meetup.User1ID, meetup.User2ID = actor, to
		}
	}
	return w.moveMatch(m, soultribe.MatchPending)
}

// answerMatch accepts or rejects.
func (w *society) answerMatch(actor soultribe.UserID, id soultribe.MatchID, to soultribe.MatchStatus) (soultribe.MatchResult, error) {
	m := w.match(actor, id)
	switch {
	case m == nil:
		return soultribe.MatchResult{}, soultribe.ErrNotFound
	case m.Status == soultribe.MatchPending && actor == m.User1ID:
		return soultribe.MatchResult{}, soultribe.ErrWrongSide
	case m.Status == soultribe.MatchPending:
		return w.moveMatch(m, to)
	case m.Status == to && actor == m.User2ID:
		return soultribe.MatchResult{Match: *m}, nil
	}
	return soultribe.MatchResult{}, &soultribe.TransitionError{From: string(m.Status), To: string(to)}
}

func (w *society) cancelMatch(actor soultribe.UserID, id soultribe.MatchID) (soultribe.MatchResult, error) {
	m := w.match(actor, id)
	switch {
	case m == nil:
		return soultribe.MatchResult{}, soultribe.ErrNotFound
	case m.Status == soultribe.MatchPending && actor == m.User2ID:
		return soultribe.MatchResult{}, soultribe.ErrWrongSide
	case m.Status == soultribe.MatchPending, m.Status == soultribe.MatchAccepted:
		if meetup := w.live(id); meetup != nil && !w.settle(meetup) {
			_, _ = w.moveMeetup(meetup, soultribe.MeetupCancelled)
		}
		return w.moveMatch(m, soultribe.MatchCancelled)
	case m.Status == soultribe.MatchCancelled:
		return soultribe.MatchResult{Match: *m}, nil
	}
	return soultribe.MatchResult{}, &soultribe.TransitionError{From: string(m.Status), To: "cancelled"}
}

// The meetups.

func live(m *soultribe.Meetup) bool {
	return m.Status == soultribe.MeetupProposed || m.Status == soultribe.MeetupConfirmed
}

func of(m *soultribe.Meetup, id soultribe.UserID) bool { return m.User1ID == id || m.User2ID == id }

func end(m *soultribe.Meetup) time.Time { return m.Start.Add(m.Duration) }

// live returns the live meetup of a match.
func (w *society) live(id soultribe.MatchID) *soultribe.Meetup {
	for _, m := range w.meetups {
		if m.MatchID == id && live(m) {
			return m
		}
	}
	return nil
}

func (w *society) meetup(actor soultribe.UserID, id soultribe.MeetupID) *soultribe.Meetup {
	for _, m := range w.meetups {
		if m.ID == id && of(m, actor) {
			return m
		}
	}
	return nil
}

func (w *society) moveMeetup(m *soultribe.Meetup, to soultribe.MeetupStatus) (soultribe.MeetupResult, error) {
	m.Status, m.UpdatedAt = to, w.now
	return soultribe.MeetupResult{Meetup: *m, Changed: true}, nil
}

// begun tells whether it is too late to change anything.
func (w *society) begun(m *soultribe.Meetup) bool { return !m.Start.After(w.now) }

func (w *society) over(m *soultribe.Meetup) bool { return !end(m).After(w.now) }

// settle moves a proposal whose start has come, and a confirmed meetup that is over, and tells whether it did.
func (w *society) settle(m *soultribe.Meetup) bool {
	switch {
	case m.Status == soultribe.MeetupProposed && w.begun(m):
		_, _ = w.moveMeetup(m, soultribe.MeetupCancelled)
	case m.Status == soultribe.MeetupConfirmed && w.over(m):
		_, _ = w.moveMeetup(m, soultribe.MeetupCompleted)
	default:
		return false
	}
	return true
}

func (w *society) settleAll() soultribe.Settled {
	settled := soultribe.Settled{Cancelled: []soultribe.Meetup{}, Completed: []soultribe.Meetup{}}
	for _, m := range w.meetups {
		switch {
		case !w.settle(m):
		case m.Status == soultribe.MeetupCancelled:
			settled.Cancelled = append(settled.Cancelled, *m)
		default:
			settled.Completed = append(settled.Completed, *m)
		}
	}
	return settled
}

// newTimes returns times as they are kept, if one may propose them.
func (w *society) newTimes(t soultribe.Times) (soultribe.Times, error) {
	t = kept(t)
	switch {
	case t.Duration < 15*time.Minute || t.Duration > 24*time.Hour:
		return t, soultribe.ErrInvalid
	case !t.Start.After(w.now):
		return t, soultribe.ErrPast
	}
	return t, nil
}

func kept(t soultribe.Times) soultribe.Times {
	if t.Duration == 0 {
		t.Duration = time.Hour
	}
	return soultribe.Times{Start: t.Start.Truncate(time.Second), Duration: t.Duration.Truncate(time.Second)}
}

func (w *society) proposeMeetup(id soultribe.MeetupID, actor soultribe.UserID, n soultribe.NewMeetup) (soultribe.MeetupResult, error) {
	none := soultribe.MeetupResult{}
	times, err := w.newTimes(n.Times)
	if err != nil {
		return none, err
	}
	match := w.match(actor, n.MatchID)
	switch {
	case match == nil:
		return none, soultribe.ErrNotFound
	case match.Status != soultribe.MatchAccepted:
		return none, &soultribe.TransitionError{From: string(match.Status), To: "proposed"}
	}
	if m := w.live(match.ID); m != nil && !w.settle(m) {
		if m.Status == soultribe.MeetupProposed && m.ProposerID == actor && m.Times == times {
			return soultribe.MeetupResult{Meetup: *m}, nil
		}
		return none, soultribe.ErrMeetupExists
	}
	m := &soultribe.Meetup{ID: id, MatchID: match.ID, User1ID: match.User1ID, User2ID: match.User2ID,
		ProposerID: actor, Times: times, CreatedAt: w.now}
	w.meetups = append(w.meetups, m)
	return w.moveMeetup(m, soultribe.MeetupProposed)
}

func (w *society) confirmMeetup(actor soultribe.UserID, id soultribe.MeetupID, seen soultribe.Times) (soultribe.MeetupResult, error) {
	none := soultribe.MeetupResult{}
	m := w.meetup(actor, id)
	switch {
	case m == nil:
		return none, soultribe.ErrNotFound
	case m.Status == soultribe.MeetupConfirmed && m.ProposerID != actor && m.Times == kept(seen):
		return soultribe.MeetupResult{Meetup: *m}, nil
	case m.Status == soultribe.MeetupConfirmed && m.ProposerID != actor:
		return none, soultribe.ErrMeetupChanged
	case !live(m), m.Status == soultribe.MeetupConfirmed:
		return none, &soultribe.TransitionError{From: string(m.Status), To: "confirmed"}
	case m.ProposerID == actor:
		return none, soultribe.ErrWrongSide
	case w.begun(m):
		return none, soultribe.ErrPast
	case m.Times != kept(seen):
		return none, soultribe.ErrMeetupChanged
	case w.booked(soultribe.Window{Start: m.Start, End: end(m)}, []soultribe.UserID{m.User1ID, m.User2ID}):
		return none, soultribe.ErrDoubleBooked
	}
	return w.moveMeetup(m, soultribe.MeetupConfirmed)
}

func (w *society) rescheduleMeetup(actor soultribe.UserID, id soultribe.MeetupID, r soultribe.Reschedule) (soultribe.MeetupResult, error) {
	none := soultribe.MeetupResult{}
	to, err := w.newTimes(r.To)
	if err != nil {
		return none, err
	}
	m := w.meetup(actor, id)
	switch {
	case m == nil:
		return none, soultribe.ErrNotFound
	case m.Status == soultribe.MeetupProposed && m.ProposerID == actor && m.Times == to:
		return soultribe.MeetupResult{Meetup: *m}, nil
	case !live(m):
		return none, &soultribe.TransitionError{From: string(m.Status), To: "proposed"}
	case w.begun(m):
		return none, soultribe.ErrPast
	case m.Times != kept(r.Seen):
		return none, soultribe.ErrMeetupChanged
	}
	m.Times, m.ProposerID = to, actor
	return w.moveMeetup(m, soultribe.MeetupProposed)
}

func (w *society) cancelMeetup(actor soultribe.UserID, id soultribe.MeetupID) (soultribe.MeetupResult, error) {
	m := w.meetup(actor, id)
	switch {
	case m == nil:
		return soultribe.MeetupResult{}, soultribe.ErrNotFound
	case m.Status == soultribe.MeetupCancelled:
		return soultribe.MeetupResult{Meetup: *m}, nil
	case !live(m):
		return soultribe.MeetupResult{}, &soultribe.TransitionError{From: string(m.Status), To: "cancelled"}
	case w.begun(m):
		return soultribe.MeetupResult{}, soultribe.ErrPast
	}
	return w.moveMeetup(m, soultribe.MeetupCancelled)
}

func (w *society) completeMeetup(actor soultribe.UserID, id soultribe.MeetupID) (soultribe.MeetupResult, error) {
	m := w.meetup(actor, id)
	switch {
	case m == nil:
		return soultribe.MeetupResult{}, soultribe.ErrNotFound
	case m.Status == soultribe.MeetupCompleted:
		return soultribe.MeetupResult{Meetup: *m}, nil
	case m.Status == soultribe.MeetupConfirmed && w.over(m):
		return w.moveMeetup(m, soultribe.MeetupCompleted)
	}
	return soultribe.MeetupResult{}, &soultribe.TransitionError{From: string(m.Status), To: "completed"}
}
