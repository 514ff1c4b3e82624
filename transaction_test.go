package soultribe_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// storeCall is a call of a Store, of which only the error matters.
type storeCall func(ctx context.Context, st soultribe.Store) error

// conflict is a call that is refused, with the code of its error.
type conflict struct {
	method, code string
	name         string // tells apart those with one code
	set          func(s *conflictScene) conflictCall
}

// conflictCall is a call of which everything is set up. A rival, where there is one, does its part in a
// transaction that is open when the call is made, and is committed when the call waits for it.
type conflictCall struct {
	call  storeCall
	rival func(ctx context.Context, tx pgx.Tx) error
}

// conflictScene makes what conflicts are about. Every conflict has people of its own.
type conflictScene struct {
	*testing.T
	db *soultribetest.DB
}

func (s *conflictScene) person() soultribe.User {
	s.Helper()
	u := s.db.User(s)
	require.NoError(s, s.db.Store.SetPassword(s.Context(), u.ID, otherPassword))
	return u
}

func (s *conflictScene) unverified() soultribe.User {
	s.Helper()
	return signUp(s, s.db, "new-"+s.person().Email)
}

// exec makes a part of the scene by plain SQL.
func (s *conflictScene) exec(sql string, args ...any) {
	s.Helper()
	_, err := s.db.Pool.Exec(s.Context(), sql, args...)
	require.NoError(s, err)
}

// plainSQL is a rival that is another client.
func plainSQL(sql string, args ...any) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error { return failure(tx.Exec(ctx, sql, args...)) }
}

// byStore is a rival that uses the library too.
func (s *conflictScene) byStore(call storeCall) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error { return call(ctx, s.db.Store.WithTx(tx)) }
}

func (s *conflictScene) deleted(id soultribe.UserID) func(ctx context.Context, tx pgx.Tx) error {
	return s.byStore(func(ctx context.Context, st soultribe.Store) error { return failure(st.DeleteUser(ctx, id)) })
}

func (s *conflictScene) asked() soultribe.Match {
	s.Helper()
	r, err := s.db.Store.RequestMatch(s.Context(), s.person().ID, s.person().ID)
	require.NoError(s, err)
	return r.Match
}

func (s *conflictScene) matched() soultribe.Match {
	s.Helper()
	return s.db.Matched(s, s.person().ID, s.person().ID)
}

// ahead is an hour well after the clock's.
func (s *conflictScene) ahead(hours int) soultribe.Times {
	return soultribe.Times{Start: s.db.Clock.Now().Add(time.Duration(hours) * time.Hour), Duration: time.Hour}
}

func (s *conflictScene) proposed() soultribe.Meetup {
	s.Helper()
	m := s.matched()
	return propose(s.T, s.db, m, m.User1ID, s.ahead(2))
}

func (s *conflictScene) slot(quarters int) soultribe.NewSlot {
	return spanFrom(spring, quarters, 4, "UTC")
}

// withSlot makes a person with a slot in the first hour of spring.
func (s *conflictScene) withSlot() (soultribe.UserID, soultribe.SlotID) {
	s.Helper()
	id := s.person().ID
	slot, err := s.db.Store.AddSlot(s.Context(), id, s.slot(0))
	require.NoError(s, err)
	return id, slot.ID
}

const plainSlot = `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
	VALUES ($1, '2026-03-29 02:00', '2026-03-29 03:00', '2026-03-29 02:00', '2026-03-29 03:00', 'UTC', now(), now())`

// nobody is an id that no account has.
const nobody = 1 << 30

// told is a conflict that what is stored makes.
func told(method, code, name string, set func(s *conflictScene) storeCall) conflict {
	return conflict{method, code, name, func(s *conflictScene) conflictCall { return conflictCall{call: set(s)} }}
}

// unknown is a conflict over an id that is not there.
func unknown(method string, call storeCall) conflict {
	return told(method, "not_found", "unknown", func(*conflictScene) storeCall { return call })
}

func accountConflicts() []conflict {
	setPassword := func(id soultribe.UserID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return st.SetPassword(ctx, id, "another password")
		}
	}
	changePassword := func(id soultribe.UserID, current string) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return st.ChangePassword(ctx, id, current, "another password")
		}
	}
	create := func(email string) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CreateUser(ctx, soultribe.NewUser{Email: email, Password: otherPassword, Profile: &soultribe.NewProfile{DisplayName: "x"}}))
		}
	}
	remove := func(id soultribe.UserID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error { return failure(st.DeleteUser(ctx, id)) }
	}
	setProfile := func(id soultribe.UserID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.SetProfile(ctx, id, soultribe.NewProfile{DisplayName: "x"}))
		}
	}
	updateProfile := func(id soultribe.UserID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.UpdateProfile(ctx, id, soultribe.ProfileUpdate{Bio: new(string)}))
		}
	}
	verify := func(id soultribe.UserID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error { return st.MarkVerified(ctx, id) }
	}
	// deletedMeanwhile is a call over somebody who is deleted while it waits.
	deletedMeanwhile := func(method string, call func(id soultribe.UserID) storeCall) conflict {
		return conflict{method, "not_found", "deleted meanwhile", func(s *conflictScene) conflictCall {
			id := s.person().ID
			return conflictCall{call(id), s.deleted(id)}
		}}
	}
	return []conflict{
		told("CreateUser", "email_taken", "", func(s *conflictScene) storeCall { return create(strings.ToUpper(s.person().Email)) }),
		{"CreateUser", "email_taken", "meanwhile", func(s *conflictScene) conflictCall {
			email := "meanwhile-" + s.person().Email
			return conflictCall{create(email), plainSQL(`INSERT INTO "user" (email, password_hash, created_at) VALUES (upper($1::text), '', now())`, email)}
		}},
		unknown("User", func(ctx context.Context, st soultribe.Store) error { return failure(st.User(ctx, nobody)) }),
		unknown("Account", func(ctx context.Context, st soultribe.Store) error { return failure(st.Account(ctx, nobody)) }),
		unknown("UserByEmail", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.UserByEmail(ctx, "nobody@example.org"))
		}),
		unknown("AccountByEmail", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.AccountByEmail(ctx, "nobody@example.org"))
		}),
		unknown("Export", func(ctx context.Context, st soultribe.Store) error { return failure(st.Export(ctx, nobody)) }),
		unknown("Profile", func(ctx context.Context, st soultribe.Store) error { return failure(st.Profile(ctx, nobody)) }),
		told("Authenticate", "invalid_credentials", "", func(s *conflictScene) storeCall {
			email := s.person().Email
			return func(ctx context.Context, st soultribe.Store) error {
				return failure(st.Authenticate(ctx, email, "wrong"))
			}
		}),
		told("CheckPassword", "invalid_credentials", "", func(s *conflictScene) storeCall {
			id := s.person().ID
			return func(ctx context.Context, st soultribe.Store) error { return st.CheckPassword(ctx, id, "wrong") }
		}),
		unknown("CheckPassword", func(ctx context.Context, st soultribe.Store) error {
			return st.CheckPassword(ctx, nobody, otherPassword)
		}),
		told("ChangePassword", "invalid_credentials", "", func(s *conflictScene) storeCall { return changePassword(s.person().ID, "wrong") }),
		{"ChangePassword", "invalid_credentials", "changed meanwhile", func(s *conflictScene) conflictCall {
			id := s.person().ID
			return conflictCall{changePassword(id, otherPassword), s.byStore(setPassword(id))}
		}},
		unknown("ChangePassword", changePassword(nobody, otherPassword)),
		deletedMeanwhile("ChangePassword", func(id soultribe.UserID) storeCall { return changePassword(id, otherPassword) }),
		unknown("SetPassword", setPassword(nobody)), deletedMeanwhile("SetPassword", setPassword),
		unknown("MarkVerified", verify(nobody)), deletedMeanwhile("MarkVerified", verify),
		unknown("SetProfile", setProfile(nobody)), deletedMeanwhile("SetProfile", setProfile),
		unknown("UpdateProfile", updateProfile(nobody)), deletedMeanwhile("UpdateProfile", updateProfile),
		unknown("DeleteUser", remove(nobody)), deletedMeanwhile("DeleteUser", remove),
		told("DeleteUser", "in_use", "", func(s *conflictScene) storeCall {
			id := s.person().ID
			s.exec(`INSERT INTO host_note VALUES ($1)`, int64(id))
			return remove(id)
		}),
		{"DeleteUser", "in_use", "meanwhile", func(s *conflictScene) conflictCall {
			id := s.person().ID
			return conflictCall{remove(id), plainSQL(`INSERT INTO host_note VALUES ($1)`, int64(id))}
		}},
		{"Purge", "in_use", "meanwhile", func(s *conflictScene) conflictCall {
			id := sqlUser(s, s.db, "idle-"+s.person().Email, "")
			s.exec(`INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at) VALUES ($1, $1::int, '2025-01-02', '2025-01-01')`, int64(id))
			return conflictCall{func(ctx context.Context, st soultribe.Store) error {
				return failure(st.Purge(ctx, soultribe.PurgePolicy{Unverified: 365 * 24 * time.Hour}))
			}, plainSQL(`INSERT INTO host_mail SELECT id FROM emailverificationtoken WHERE user_id = $1`, int64(id))}
		}},
	}
}

func tokenConflicts() []conflict {
	issue := func(id soultribe.UserID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.IssueEmailVerification(ctx, id))
		}
	}
	change := func(id soultribe.UserID, password, email string) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.IssueEmailChange(ctx, id, password, email))
		}
	}
	redeem := map[string]func(secret string) storeCall{
		"VerifyEmail": func(secret string) storeCall {
			return func(ctx context.Context, st soultribe.Store) error { return failure(st.VerifyEmail(ctx, secret)) }
		},
		"CheckEmailVerification": func(secret string) storeCall {
			return func(ctx context.Context, st soultribe.Store) error { return st.CheckEmailVerification(ctx, secret) }
		},
		"ResetPassword": func(secret string) storeCall {
			return func(ctx context.Context, st soultribe.Store) error {
				return failure(st.ResetPassword(ctx, secret, "another password"))
			}
		},
		"CheckPasswordReset": func(secret string) storeCall {
			return func(ctx context.Context, st soultribe.Store) error { return st.CheckPasswordReset(ctx, secret) }
		},
	}
	conflicts := []conflict{
		unknown("IssueEmailVerification", issue(nobody)),
		told("IssueEmailVerification", "already_verified", "", func(s *conflictScene) storeCall { return issue(s.person().ID) }),
		{"IssueEmailVerification", "already_verified", "meanwhile", func(s *conflictScene) conflictCall {
			id := s.unverified().ID
			return conflictCall{issue(id), s.byStore(func(ctx context.Context, st soultribe.Store) error { return st.MarkVerified(ctx, id) })}
		}},
		told("IssueEmailVerification", "cooldown", "", func(s *conflictScene) storeCall {
			id := s.unverified().ID
			require.NoError(s, issue(id)(s.Context(), s.db.Store))
			return issue(id)
		}),
		{"IssueEmailVerification", "cooldown", "meanwhile", func(s *conflictScene) conflictCall {
			id := s.unverified().ID
			return conflictCall{issue(id), s.byStore(issue(id))}
		}},
		unknown("IssueEmailChange", change(nobody, otherPassword, "new@example.org")),
		told("IssueEmailChange", "invalid_credentials", "", func(s *conflictScene) storeCall { return change(s.person().ID, "wrong", "new@example.org") }),
		told("IssueEmailChange", "email_taken", "", func(s *conflictScene) storeCall {
			return change(s.person().ID, otherPassword, strings.ToUpper(s.person().Email))
		}),
		told("IssueEmailChange", "cooldown", "", func(s *conflictScene) storeCall {
			id := s.unverified().ID
			require.NoError(s, issue(id)(s.Context(), s.db.Store))
			return change(id, otherPassword, "new@example.org")
		}),
		{"IssueEmailChange", "cooldown", "meanwhile", func(s *conflictScene) conflictCall {
			id := s.unverified().ID
			return conflictCall{change(id, otherPassword, "new@example.org"), s.byStore(issue(id))}
		}},
		{"IssueEmailChange", "invalid_credentials", "changed meanwhile", func(s *conflictScene) conflictCall {
			id := s.person().ID
			return conflictCall{change(id, otherPassword, "new@example.org"), s.byStore(func(ctx context.Context, st soultribe.Store) error {
				return st.SetPassword(ctx, id, "another password")
			})}
		}},
		{"VerifyEmail", "email_taken", "meanwhile", func(s *conflictScene) conflictCall {
			u := s.unverified()
			secret := issuer{s, s.db}.change(u, "meanwhile-"+u.Email)
			return conflictCall{redeem["VerifyEmail"](secret), plainSQL(`INSERT INTO "user" (email, password_hash, created_at) VALUES (upper($1::text), '', now())`, "meanwhile-"+u.Email)}
		}},
	}
	for method, call := range redeem {
		table := "emailverificationtoken"
		secret := func(s *conflictScene) string { return issuer{s, s.db}.verification(s.unverified()) }
		use := redeem["VerifyEmail"]
		if strings.Contains(method, "Password") {
			table = "passwordresettoken"
			secret = func(s *conflictScene) string { return issuer{s, s.db}.reset(s.person()) }
			use = redeem["ResetPassword"]
		} else {
			conflicts = append(conflicts, told(method, "email_taken", "", func(s *conflictScene) storeCall {
				u := s.unverified()
				late := issuer{s, s.db}.change(u, "taken-"+u.Email)
				signUp(s, s.db, "Taken-"+u.Email)
				return call(late)
			}))
		}
		conflicts = append(conflicts,
			told(method, "token_invalid", "", func(*conflictScene) storeCall { return call("unknown") }),
			told(method, "token_expired", "", func(s *conflictScene) storeCall {
				plain := "expired " + method
				sqlToken(s, s.db, table, s.unverified().ID, plain, "2026-01-01")
				return call(plain)
			}),
			told(method, "token_used", "", func(s *conflictScene) storeCall {
				used := secret(s)
				require.NoError(s, use(used)(s.Context(), s.db.Store))
				return call(used)
			}))
		if strings.HasPrefix(method, "Check") {
			continue // which waits for nobody
		}
		conflicts = append(conflicts, conflict{method, "token_used", "meanwhile", func(s *conflictScene) conflictCall {
			once := secret(s)
			return conflictCall{call(once), s.byStore(use(once))}
		}}, conflict{method, "token_used", "expired meanwhile", func(s *conflictScene) conflictCall {
			once := secret(s)
			return conflictCall{call(once), plainSQL(`UPDATE `+table+` SET expires_at = '2000-01-01' WHERE token = 'sha256:' || encode(sha256($1::text::bytea), 'hex')`, once)}
		}})
	}
	return conflicts
}

func slotConflicts() []conflict {
	var (
		add = func(id soultribe.UserID, slot soultribe.NewSlot) storeCall {
			return func(ctx context.Context, st soultribe.Store) error { return failure(st.AddSlot(ctx, id, slot)) }
		}
		addSeveral = func(id soultribe.UserID, slot soultribe.NewSlot) storeCall {
			return func(ctx context.Context, st soultribe.Store) error {
				return failure(st.AddSlots(ctx, id, []soultribe.NewSlot{spanFrom(spring, 60, 4, "UTC"), slot}))
			}
		}
		replace = func(id soultribe.UserID, slot soultribe.NewSlot) storeCall {
			return func(ctx context.Context, st soultribe.Store) error {
				return failure(st.ReplaceSlots(ctx, id, soultribe.Window{Start: slot.Start, End: slot.Start.Add(quarter)}, []soultribe.NewSlot{slot}))
			}
		}
		over = spanFrom(soultribetest.Epoch, -8, 4, "UTC")
	)
	conflicts := []conflict{
		told("UpdateSlot", "past", "", func(s *conflictScene) storeCall {
			id, slot := s.withSlot()
			return func(ctx context.Context, st soultribe.Store) error {
				return failure(st.UpdateSlot(ctx, id, slot, over))
			}
		}),
		told("UpdateSlot", "slot_overlap", "", func(s *conflictScene) storeCall {
			id, slot := s.withSlot()
			require.NoError(s, add(id, s.slot(8))(s.Context(), s.db.Store))
			return func(ctx context.Context, st soultribe.Store) error {
				return failure(st.UpdateSlot(ctx, id, slot, s.slot(6)))
			}
		}),
		{"UpdateSlot", "slot_overlap", "meanwhile", func(s *conflictScene) conflictCall {
			id, slot := s.withSlot()
			return conflictCall{func(ctx context.Context, st soultribe.Store) error {
				return failure(st.UpdateSlot(ctx, id, slot, s.slot(6)))
			},
				plainSQL(plainSlot, int64(id))}
		}},
		{"UpdateSlot", "not_found", "meanwhile", func(s *conflictScene) conflictCall {
			id, slot := s.withSlot()
			return conflictCall{func(ctx context.Context, st soultribe.Store) error {
				return failure(st.UpdateSlot(ctx, id, slot, s.slot(6)))
			},
				s.byStore(func(ctx context.Context, st soultribe.Store) error { return st.DeleteSlot(ctx, id, slot) })}
		}},
		unknown("UpdateSlot", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.UpdateSlot(ctx, nobody, 1, spanFrom(spring, 0, 4, "UTC")))
		}),
		unknown("DeleteSlot", func(ctx context.Context, st soultribe.Store) error { return st.DeleteSlot(ctx, nobody, 1) }),
		{"DeleteSlot", "not_found", "meanwhile", func(s *conflictScene) conflictCall {
			id, slot := s.withSlot()
			remove := func(ctx context.Context, st soultribe.Store) error { return st.DeleteSlot(ctx, id, slot) }
			return conflictCall{remove, s.byStore(remove)}
		}},
		unknown("Slots", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Slots(ctx, nobody, soultribe.SlotQuery{}))
		}),
		unknown("Slot", func(ctx context.Context, st soultribe.Store) error { return failure(st.Slot(ctx, nobody, 1)) }),
		unknown("MutualAvailability", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.MutualAvailability(ctx, nobody, nobody+1, soultribe.MutualQuery{}))
		}),
	}
	for method, store := range map[string]func(id soultribe.UserID, slot soultribe.NewSlot) storeCall{"AddSlot": add, "AddSlots": addSeveral, "ReplaceSlots": replace} {
		conflicts = append(conflicts,
			unknown(method, store(nobody, spanFrom(spring, 0, 4, "UTC"))),
			told(method, "past", "", func(s *conflictScene) storeCall { return store(s.person().ID, over) }),
			told(method, "slot_overlap", "", func(s *conflictScene) storeCall {
				id, _ := s.withSlot()
				return store(id, s.slot(2))
			}),
			conflict{method, "slot_overlap", "meanwhile", func(s *conflictScene) conflictCall {
				id, _ := s.withSlot()
				return conflictCall{store(id, s.slot(6)), plainSQL(plainSlot, int64(id))}
			}},
			conflict{method, "not_found", "deleted meanwhile", func(s *conflictScene) conflictCall {
				id, _ := s.withSlot()
				return conflictCall{store(id, s.slot(6)), s.deleted(id)}
			}})
	}
	return conflicts
}

func matchConflicts() []conflict {
	request := func(actor, to soultribe.UserID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error { return failure(st.RequestMatch(ctx, actor, to)) }
	}
	accept := func(actor soultribe.UserID, id soultribe.MatchID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error { return failure(st.AcceptMatch(ctx, actor, id)) }
	}
	reject := func(actor soultribe.UserID, id soultribe.MatchID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error { return failure(st.RejectMatch(ctx, actor, id)) }
	}
	cancel := func(actor soultribe.UserID, id soultribe.MatchID) storeCall {
		return func(ctx context.Context, st soultribe.Store) error { return failure(st.CancelMatch(ctx, actor, id)) }
	}
	const plainMatch = `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)`
	conflicts := []conflict{
		unknown("RequestMatch", request(nobody, nobody+1)),
		told("RequestMatch", "not_found", "to nobody", func(s *conflictScene) storeCall { return request(s.person().ID, nobody) }),
		told("RequestMatch", "unverified", "", func(s *conflictScene) storeCall { return request(s.unverified().ID, s.person().ID) }),
		told("RequestMatch", "transition", "", func(s *conflictScene) storeCall {
			a, b := s.person().ID, s.person().ID
			s.exec(plainMatch, int64(a), int64(b), "suggested", s.db.Clock.Now())
			return request(a, b)
		}),
		told("RequestMatch", "cooldown", "", func(s *conflictScene) storeCall {
			m := s.asked()
			require.NoError(s, reject(m.User2ID, m.ID)(s.Context(), s.db.Store))
			return request(m.User1ID, m.User2ID)
		}),
		{"RequestMatch", "cooldown", "meanwhile", func(s *conflictScene) conflictCall {
			a, b := s.person().ID, s.person().ID
			return conflictCall{request(a, b), plainSQL(plainMatch, int64(a), int64(b), "rejected", s.db.Clock.Now())}
		}},
		{"RequestMatch", "not_found", "deleted meanwhile", func(s *conflictScene) conflictCall {
			a, b := s.person().ID, s.person().ID
			return conflictCall{request(a, b), s.deleted(b)}
		}},
		told("AcceptMatch", "unverified", "", func(s *conflictScene) storeCall {
			m := s.asked()
			s.exec(`UPDATE "user" SET email_verified_at = NULL WHERE id = $1`, int64(m.User2ID))
			return accept(m.User2ID, m.ID)
		}),
		unknown("Match", func(ctx context.Context, st soultribe.Store) error { return failure(st.Match(ctx, nobody, 1)) }),
		unknown("Matches", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Matches(ctx, nobody, soultribe.MatchQuery{}))
		}),
		unknown("Candidates", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Candidates(ctx, nobody, soultribe.CandidateQuery{}))
		}),
		unknown("MatchBetween", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.MatchBetween(ctx, nobody, nobody+1))
		}),
	}
	for method, step := range map[string]struct {
		take, rival func(actor soultribe.UserID, id soultribe.MatchID) storeCall
		byUser1     bool
	}{
		"AcceptMatch": {take: accept, rival: cancel},
		"RejectMatch": {take: reject, rival: cancel},
		"CancelMatch": {take: cancel, rival: reject, byUser1: true},
	} {
		sides := func(m soultribe.Match) (actor, other soultribe.UserID) {
			if step.byUser1 {
				return m.User1ID, m.User2ID
			}
			return m.User2ID, m.User1ID
		}
		conflicts = append(conflicts,
			unknown(method, step.take(nobody, 1)),
			told(method, "wrong_side", "", func(s *conflictScene) storeCall {
				m := s.asked()
				_, other := sides(m)
				return step.take(other, m.ID)
			}),
			told(method, "transition", "", func(s *conflictScene) storeCall {
				m := s.asked()
				actor, other := sides(m)
				require.NoError(s, step.rival(other, m.ID)(s.Context(), s.db.Store))
				return step.take(actor, m.ID)
			}),
			conflict{method, "transition", "meanwhile", func(s *conflictScene) conflictCall {
				m := s.asked()
				actor, other := sides(m)
				return conflictCall{step.take(actor, m.ID), s.byStore(step.rival(other, m.ID))}
			}},
			conflict{method, "not_found", "deleted meanwhile", func(s *conflictScene) conflictCall {
				m := s.asked()
				actor, other := sides(m)
				return conflictCall{step.take(actor, m.ID), s.deleted(other)}
			}})
	}
	return conflicts
}

func meetupConflicts() []conflict {
	proposal := func(actor soultribe.UserID, id soultribe.MatchID, times soultribe.Times) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ProposeMeetup(ctx, actor, soultribe.NewMeetup{MatchID: id, Times: times}))
		}
	}
	confirm := func(m soultribe.Meetup) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ConfirmMeetup(ctx, m.User2ID, m.ID, m.Times))
		}
	}
	reschedule := func(m soultribe.Meetup, to soultribe.Times) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.RescheduleMeetup(ctx, m.User1ID, m.ID, soultribe.Reschedule{Seen: m.Times, To: to}))
		}
	}
	cancel := func(m soultribe.Meetup) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CancelMeetup(ctx, m.User1ID, m.ID))
		}
	}
	complete := func(m soultribe.Meetup) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CompleteMeetup(ctx, m.User1ID, m.ID))
		}
	}
	cancelMatch := func(m soultribe.Match) storeCall {
		return func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CancelMatch(ctx, m.User2ID, m.ID))
		}
	}
	setStatus := func(m soultribe.Meetup, status soultribe.MeetupStatus) func(ctx context.Context, tx pgx.Tx) error {
		return plainSQL(`UPDATE meetup SET status = $2 WHERE id = $1`, int64(m.ID), string(status))
	}
	// rivals are two proposals for one time, which share a person.
	rivals := func(s *conflictScene) (mine, rival soultribe.Meetup) {
		m := s.matched()
		other := s.db.Matched(s, s.person().ID, m.User2ID)
		return propose(s.T, s.db, m, m.User1ID, s.ahead(2)), propose(s.T, s.db, other, other.User1ID, s.ahead(2))
	}
	conflicts := []conflict{
		unknown("Meetup", func(ctx context.Context, st soultribe.Store) error { return failure(st.Meetup(ctx, nobody, 1)) }),
		unknown("Meetups", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Meetups(ctx, nobody, soultribe.MeetupQuery{}))
		}),
		unknown("ProposeMeetup", proposal(nobody, 1, soultribe.Times{Start: spring})),
		told("ProposeMeetup", "past", "", func(s *conflictScene) storeCall {
			m := s.matched()
			return proposal(m.User1ID, m.ID, s.ahead(-2))
		}),
		told("ProposeMeetup", "meetup_exists", "", func(s *conflictScene) storeCall {
			m := s.proposed()
			return proposal(m.User1ID, m.MatchID, s.ahead(5))
		}),
		{"ProposeMeetup", "meetup_exists", "meanwhile", func(s *conflictScene) conflictCall {
			m := s.matched()
			return conflictCall{proposal(m.User1ID, m.ID, s.ahead(5)),
				plainSQL(`INSERT INTO meetup (match_id, scheduled_time, status, created_at, updated_at) VALUES ($1, $2, 'proposed', $2, $2)`, int64(m.ID), s.ahead(2).Start)}
		}},
		{"ProposeMeetup", "meetup_exists", "moved meanwhile", func(s *conflictScene) conflictCall {
			m := s.proposed()
			return conflictCall{proposal(m.User1ID, m.MatchID, m.Times), s.byStore(reschedule(m, s.ahead(7)))}
		}},
		told("ProposeMeetup", "transition", "", func(s *conflictScene) storeCall {
			m := s.asked()
			return proposal(m.User1ID, m.ID, s.ahead(5))
		}),
		{"ProposeMeetup", "transition", "meanwhile", func(s *conflictScene) conflictCall {
			m := s.matched()
			return conflictCall{proposal(m.User1ID, m.ID, s.ahead(5)), s.byStore(cancelMatch(m))}
		}},
		told("ConfirmMeetup", "wrong_side", "", func(s *conflictScene) storeCall {
			m := s.proposed()
			return func(ctx context.Context, st soultribe.Store) error {
				return failure(st.ConfirmMeetup(ctx, m.User1ID, m.ID, m.Times))
			}
		}),
		told("ConfirmMeetup", "meetup_changed", "", func(s *conflictScene) storeCall {
			m := s.proposed()
			m.Times = s.ahead(7)
			return confirm(m)
		}),
		{"ConfirmMeetup", "meetup_changed", "meanwhile", func(s *conflictScene) conflictCall {
			m := s.proposed()
			return conflictCall{confirm(m), s.byStore(reschedule(m, s.ahead(7)))}
		}},
		told("ConfirmMeetup", "double_booked", "", func(s *conflictScene) storeCall {
			mine, rival := rivals(s)
			require.NoError(s, confirm(rival)(s.Context(), s.db.Store))
			return confirm(mine)
		}),
		{"ConfirmMeetup", "double_booked", "meanwhile", func(s *conflictScene) conflictCall {
			mine, rival := rivals(s)
			return conflictCall{confirm(mine), s.byStore(confirm(rival))}
		}},
		{"ConfirmMeetup", "double_booked", "meanwhile, by plain SQL", func(s *conflictScene) conflictCall {
			mine, rival := rivals(s)
			return conflictCall{confirm(mine), setStatus(rival, soultribe.MeetupConfirmed)}
		}},
		told("RescheduleMeetup", "meetup_changed", "", func(s *conflictScene) storeCall {
			m := s.proposed()
			m.Times = s.ahead(7)
			return reschedule(m, s.ahead(9))
		}),
		{"RescheduleMeetup", "meetup_changed", "meanwhile", func(s *conflictScene) conflictCall {
			m := s.proposed()
			return conflictCall{reschedule(m, s.ahead(7)), s.byStore(reschedule(m, s.ahead(9)))}
		}},
		told("CompleteMeetup", "transition", "", func(s *conflictScene) storeCall { return complete(s.proposed()) }),
		{"CompleteMeetup", "transition", "meanwhile", func(s *conflictScene) conflictCall {
			m := s.db.Meetup(s, s.matched(), s.ahead(2))
			s.db.Clock.Advance(4 * time.Hour)
			return conflictCall{complete(m), setStatus(m, soultribe.MeetupCancelled)}
		}},
	}
	for method, step := range map[string]func(m soultribe.Meetup) storeCall{
		"ConfirmMeetup": confirm, "CancelMeetup": cancel, "CompleteMeetup": complete,
		"RescheduleMeetup": func(m soultribe.Meetup) storeCall { return reschedule(m, soultribe.Times{Start: spring}) },
	} {
		stranger := soultribe.Meetup{ID: 1, User1ID: nobody, User2ID: nobody, Times: soultribe.Times{Start: spring}}
		conflicts = append(conflicts, unknown(method, step(stranger)), conflict{method, "not_found", "deleted meanwhile", func(s *conflictScene) conflictCall {
			m := s.proposed()
			return conflictCall{step(m), s.deleted(m.User1ID)}
		}})
		if method == "CompleteMeetup" {
			continue
		}
		conflicts = append(conflicts,
			told(method, "past", "", func(s *conflictScene) storeCall {
				m := s.proposed()
				s.db.Clock.Advance(3 * time.Hour)
				return step(m)
			}),
			conflict{method, "transition", "meanwhile", func(s *conflictScene) conflictCall {
				m := s.proposed()
				return conflictCall{step(m), setStatus(m, soultribe.MeetupCompleted)}
			}})
	}
	return conflicts
}

// unconflicted are the methods that nothing can refuse but their arguments, their context or the schema.
var unconflicted = []string{
	"HashPassword", "IssuePasswordReset", "PublicProfiles", "Users", "Accounts", "PendingMatches", "ScanMatches", "ScanMeetups", "Settle", "Stats", "Ready", "WithTx", "InTx",
}

// TestTransactionSurvivesConflicts makes every conflict of every method in a caller's transaction, which
// wrote before, writes after, and commits. Where others can make the conflict while the call waits for them,
// they do, by the library or by plain SQL, so that constraints fire too.
//
//nolint:tparallel // one at a time: waitForBlocked looks at all sessions of the database
func TestTransactionSurvivesConflicts(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	_, err := db.Pool.Exec(t.Context(), `CREATE TABLE host_note (owner int CONSTRAINT host_note_fkey REFERENCES "user" (id)); CREATE TABLE host_row (line text);
		CREATE TABLE host_mail (token int CONSTRAINT host_mail_fkey REFERENCES emailverificationtoken)`)
	require.NoError(t, err)
	conflicts := slices.Concat(accountConflicts(), tokenConflicts(), slotConflicts(), matchConflicts(), meetupConflicts())
	requireEveryConflict(t, conflicts)
	raced := 0
	for _, c := range conflicts { //nolint:paralleltest // as above
		t.Run(strings.TrimSpace(c.method+" "+c.code+" "+c.name), func(t *testing.T) {
			ctx := t.Context()
			call := c.set(&conflictScene{t, db})
			tx, err := db.Pool.Begin(ctx)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			require.NoError(t, failure(tx.Exec(ctx, `TRUNCATE host_row`)))
			require.NoError(t, failure(tx.Exec(ctx, `INSERT INTO host_row VALUES ('before')`)))
			if call.rival == nil {
				err = call.call(ctx, db.Store.WithTx(tx))
			} else {
				raced++
				err = meetRival(t, db, tx, call)
			}
			require.Equal(t, c.code, soultribe.Code(err), "%v", err)
			require.Equal(t, "T", string(tx.Conn().PgConn().TxStatus()), "%v", err)
			require.NoError(t, failure(tx.Exec(ctx, `INSERT INTO host_row VALUES ('after')`)))
			require.NoError(t, tx.Commit(ctx))
			require.Equal(t, []string{"after", "before"}, db.Query(t, `SELECT line FROM host_row ORDER BY line`))
		})
	}
	t.Logf("%d conflicts, of which others made %d while the call waited", len(conflicts), raced)
	requireSoundSlots(t, db)
	requireSound(t, db)
}

// meetRival makes the call in tx, and commits the rival's transaction when it waits.
func meetRival(t *testing.T, db *soultribetest.DB, tx pgx.Tx, call conflictCall) error {
	t.Helper()
	rival, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = rival.Rollback(context.Background()) }()
	require.NoError(t, call.rival(t.Context(), rival))
	result := make(chan error, 1)
	go func() { result <- call.call(t.Context(), db.Store.WithTx(tx)) }()
	waitForBlocked(t, db)
	require.NoError(t, rival.Commit(t.Context()))
	return <-result
}

// TestAnswersByWhatItWaitedFor has a rival undo what a call would have been refused for, or change what it would have changed.
func TestAnswersByWhatItWaitedFor(t *testing.T) { //nolint:tparallel // its parts come one after the other
	t.Parallel()
	db := soultribetest.New(t)
	meet := func(t *testing.T, call conflictCall) {
		t.Helper()
		tx, err := db.Pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.Background()) }()
		require.NoError(t, meetRival(t, db, tx, call))
		require.NoError(t, tx.Commit(t.Context()))
	}
	t.Run("ProposeMeetup, when the proposal is cancelled", func(t *testing.T) { //nolint:paralleltest // waitForBlocked looks at the whole database
		s := &conflictScene{t, db}
		m := s.proposed()
		var r soultribe.MeetupResult
		meet(t, conflictCall{func(ctx context.Context, st soultribe.Store) (err error) {
			r, err = st.ProposeMeetup(ctx, m.User1ID, soultribe.NewMeetup{MatchID: m.MatchID, Times: m.Times})
			return err
		}, s.byStore(func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CancelMeetup(ctx, m.User2ID, m.ID))
		})})
		require.True(t, r.Changed)
		require.Equal(t, []string{fmt.Sprintf("%d cancelled", m.ID), fmt.Sprintf("%d proposed", r.ID)},
			db.Query(t, `SELECT id || ' ' || status FROM meetup WHERE match_id = $1 ORDER BY id`, int64(m.MatchID)))
	})
	t.Run("VerifyEmail, when the secret is revoked", func(t *testing.T) { //nolint:paralleltest // likewise
		s := &conflictScene{t, db}
		u := s.unverified()
		older := issuer{s, db}.verification(u)
		s.exec(`UPDATE emailverificationtoken SET created_at = created_at - interval '1 day' WHERE user_id = $1`, int64(u.ID))
		newer := issuer{s, db}.verification(u)
		meet(t, conflictCall{func(ctx context.Context, st soultribe.Store) error {
			_, err := st.VerifyEmail(ctx, older)
			require.ErrorIs(t, err, soultribe.ErrTokenUsed)
			return nil
		}, plainSQL(`DELETE FROM emailverificationtoken WHERE token = 'sha256:' || encode(sha256($1::text::bytea), 'hex')`, older)})
		require.NoError(t, failure(db.Store.VerifyEmail(t.Context(), newer)), "the other one lives on")
	})
}

// requireEveryConflict checks that each method has its conflicts, or is known to have none, and that they
// are at least those that its comment names.
func requireEveryConflict(t *testing.T, conflicts []conflict) {
	t.Helper()
	codes := map[string][]string{}
	for _, c := range conflicts {
		codes[c.method] = append(codes[c.method], c.code)
	}
	documented := documentedErrors(t)
	for m := range reflect.TypeFor[soultribe.Store]().Methods() {
		require.NotEqual(t, slices.Contains(unconflicted, m.Name), codes[m.Name] != nil, "can %s meet a conflict? Add its conflicts, or list it with those that meet none", m.Name)
		require.Subset(t, codes[m.Name], documented[m.Name], "the comment of %s names a conflict that is not made here", m.Name)
	}
}

// documentedErrors are, by method, the codes of the errors that its comment in the interface names. Left
// out are those that come before the database is asked, those by which PostgreSQL ends the transaction
// itself, and the bases, which the specific ones are named with.
func documentedErrors(t *testing.T) map[string][]string {
	t.Helper()
	source, err := os.ReadFile("errors.go")
	require.NoError(t, err)
	code := map[string]string{"TransitionError": "transition", "CooldownError": "cooldown", "OverlapError": "slot_overlap", "InUseError": "in_use"}
	for _, m := range regexp.MustCompile(`(Err\w+) +error = &sentinel\{"(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		code[m[1]] = m[2]
	}
	require.Greater(t, len(code), 20)
	for _, name := range []string{"ErrInvalid", "ErrRetry", "ErrSchema", "ErrConflict", "ErrForbidden", "ErrTokenInvalid"} {
		delete(code, name)
	}
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	documented := map[string][]string{}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file.Name(), nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !strings.HasSuffix(spec.Name.Name, "Store") {
				return true
			}
			methods, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return true
			}
			for _, method := range methods.Methods.List {
				for _, name := range regexp.MustCompile(`Err[A-Z]\w+|\w+Error\b`).FindAllString(method.Doc.Text(), -1) {
					if c := code[name]; c != "" && len(method.Names) == 1 {
						documented[method.Names[0].Name] = append(documented[method.Names[0].Name], c)
					}
				}
			}
			return false
		})
	}
	require.Contains(t, documented["CreateUser"], "email_taken")
	return documented
}
