package soultribe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/Masterminds/squirrel"
)

// Profile is what a person says of themself. FullName is for the person alone.
type Profile struct {
	UserID      UserID    `json:"user_id"`
	FullName    string    `json:"full_name"`
	DisplayName string    `json:"display_name"`
	Bio         string    `json:"bio,omitempty"`
	Timezone    string    `json:"timezone,omitempty"` // IANA name, or ""
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// NewProfile is a profile to be stored. Names are trimmed, of one line, and have 200 characters at most.
type NewProfile struct {
	FullName    string `json:"full_name"`
	DisplayName string `json:"display_name"` // required
	Bio         string `json:"bio"`          // 10,000 characters at most; "" is stored as NULL
	Timezone    string `json:"timezone"`     // an IANA name; "" is stored as NULL
}

// ProfileUpdate changes the fields that are not nil. The empty string clears Bio and Timezone, as does
// null in JSON, where a field that is absent is left alone.
type ProfileUpdate struct {
	FullName    *string `json:"full_name,omitempty"`
	DisplayName *string `json:"display_name,omitempty"`
	Bio         *string `json:"bio,omitempty"`
	Timezone    *string `json:"timezone,omitempty"`
}

// UnmarshalJSON implements [json.Unmarshaler]: null is the empty string.
func (u *ProfileUpdate) UnmarshalJSON(b []byte) error {
	given := struct {
		FullName    nullable `json:"full_name"`
		DisplayName nullable `json:"display_name"`
		Bio         nullable `json:"bio"`
		Timezone    nullable `json:"timezone"`
	}{nullable{u.FullName}, nullable{u.DisplayName}, nullable{u.Bio}, nullable{u.Timezone}}
	if err := json.Unmarshal(b, &given); err != nil {
		return err
	}
	*u = ProfileUpdate{given.FullName.s, given.DisplayName.s, given.Bio.s, given.Timezone.s}
	return nil
}

// nullable is a field that tells null, for which it holds the empty string, from absence. A pointer by
// itself cannot: encoding/json sets it to nil for null.
type nullable struct{ s *string }

func (n *nullable) UnmarshalJSON(b []byte) error {
	n.s = new(string)
	return json.Unmarshal(b, n.s) // null leaves the string as it is
}

// PublicProfile is what others see of a person.
type PublicProfile struct {
	UserID      UserID `json:"user_id"`
	DisplayName string `json:"display_name"`
	Bio         string `json:"bio,omitempty"`
	Timezone    string `json:"timezone,omitempty"`
}

// ProfileStore keeps one profile a user.
type ProfileStore interface {
	// SetProfile makes or replaces the user's profile. It returns ErrInvalid for a profile that breaks
	// the rules of NewProfile, and ErrNotFound where there is no such user.
	SetProfile(ctx context.Context, id UserID, profile NewProfile) (Profile, error)
	// UpdateProfile changes the fields that are given. It returns ErrInvalid as SetProfile does, and
	// ErrNotFound where there is no profile.
	UpdateProfile(ctx context.Context, id UserID, update ProfileUpdate) (Profile, error)
	// Profile returns the user's profile, or ErrNotFound.
	Profile(ctx context.Context, id UserID) (Profile, error)
	// PublicProfiles returns what others see of those of the users who have a profile. It takes 1,000
	// ids at most; more is ErrInvalid.
	PublicProfiles(ctx context.Context, ids []UserID) (map[UserID]PublicProfile, error)
}

// maxIDs bounds the sets of ids in one call.
const maxIDs = 1000

// profileColumns make a Profile of the profile p.
const profileColumns = "p.user_id, coalesce(p.full_name, ''), coalesce(p.display_name, ''), coalesce(p.bio, ''), coalesce(p.timezone, '')," +
	" p.created_at, p.updated_at"

type profileStatements struct {
	setProfile, updateProfile, profile, publicProfiles statement
}

func newProfileStatements(t tables) profileStatements {
	const row = "user_id, full_name, display_name, bio, timezone, created_at, updated_at"
	set := compile("SetProfile", squirrel.Select(profileColumns).From("saved p"),
		with{"owner", keyShare(t)},
		with{"saved", squirrel.Insert(t.profile+" AS p").
			Columns("user_id", "full_name", "display_name", "bio", "timezone", "created_at", "updated_at").
			Select(squirrel.Select("owner.id", "$2::text", "$3::text", orNull("$4"), orNull("$5"), "$6::timestamp", "$6::timestamp").
				From("owner")).
			Suffix("ON CONFLICT (user_id) DO UPDATE SET full_name = excluded.full_name, display_name = excluded.display_name," +
				" bio = excluded.bio, timezone = excluded.timezone, updated_at = excluded.updated_at RETURNING " + row)})
	update := compile("UpdateProfile", squirrel.Select(profileColumns).From("saved p"),
		with{"saved", squirrel.Update(t.profile).
			Set("full_name", squirrel.Expr("coalesce($2::text, full_name)")).
			Set("display_name", squirrel.Expr("coalesce($3::text, display_name)")).
			Set("bio", squirrel.Expr("CASE WHEN $4::text IS NULL THEN bio ELSE "+orNull("$4")+" END")).
			Set("timezone", squirrel.Expr("CASE WHEN $5::text IS NULL THEN timezone ELSE "+orNull("$5")+" END")).
			Set("updated_at", squirrel.Expr("$6::timestamp")).
			Where("user_id = $1::bigint").Suffix("RETURNING " + row)})
	return profileStatements{
		setProfile:    set,
		updateProfile: update,
		profile:       compile("Profile", squirrel.Select(profileColumns).From(t.profile+" p").Where("p.user_id = $1::bigint")),
		publicProfiles: compile("PublicProfiles", squirrel.Select("p.user_id", "p.display_name", "coalesce(p.bio, '')", "coalesce(p.timezone, '')").
			From(t.profile+" p").Where("p.user_id = ANY($1::bigint[])")),
	}
}

// orNull is a parameter that stores the empty string as NULL.
func orNull(parameter string) string {
	return "CASE WHEN " + parameter + "::text <> '' THEN " + parameter + "::text END"
}

// keyShare locks user $1 against deletion, as a foreign key does, but without its error.
func keyShare(t tables) squirrel.Sqlizer {
	return squirrel.Select("u.id").From(t.user + " u").Where("u.id = $1::bigint").Suffix("FOR KEY SHARE")
}

func scanProfile(r *rowReader) Profile {
	return Profile{UserID: UserID(r.integer()), FullName: r.text(), DisplayName: r.text(), Bio: r.text(), Timezone: r.text(),
		CreatedAt: r.time(), UpdatedAt: r.time()}
}

func scanPublicProfile(r *rowReader) PublicProfile {
	return PublicProfile{UserID: UserID(r.integer()), DisplayName: r.text(), Bio: r.text(), Timezone: r.text()}
}

// newProfile returns the profile as it is stored.
func newProfile(n NewProfile) (NewProfile, error) {
	var errs [4]error
	n.FullName, errs[0] = newName("full_name", n.FullName)
	n.DisplayName, errs[1] = newDisplayName(n.DisplayName)
	errs[2] = checkBio(n.Bio)
	errs[3] = checkOptionalZone(n.Timezone)
	return n, errors.Join(errs[:]...)
}

func checkOptionalZone(name string) error {
	if name == "" {
		return nil
	}
	_, err := loadZone(name)
	return err
}

// SetProfile implements [ProfileStore].
func (p *Postgres) SetProfile(ctx context.Context, id UserID, profile NewProfile) (Profile, error) {
	profile, err := newProfile(profile)
	if err := errors.Join(checkID("user_id", id), err); err != nil {
		return Profile{}, opError("SetProfile", err)
	}
	return queryOne(ctx, p, "SetProfile", p.sql.setProfile, scanProfile, int64(id),
		profile.FullName, profile.DisplayName, profile.Bio, profile.Timezone, timestamp(p.now()))
}

// UpdateProfile implements [ProfileStore].
func (p *Postgres) UpdateProfile(ctx context.Context, id UserID, u ProfileUpdate) (Profile, error) {
	errs := []error{checkID("user_id", id)}
	change := func(field *string, clean func(string) (string, error)) *string {
		if field == nil {
			return nil
		}
		s, err := clean(*field)
		errs = append(errs, err)
		return &s
	}
	fullName := change(u.FullName, func(s string) (string, error) { return newName("full_name", s) })
	displayName := change(u.DisplayName, newDisplayName)
	bio := change(u.Bio, func(s string) (string, error) { return s, checkBio(s) })
	zone := change(u.Timezone, func(s string) (string, error) { return s, checkOptionalZone(s) })
	if err := errors.Join(errs...); err != nil {
		return Profile{}, opError("UpdateProfile", err)
	}
	if u == (ProfileUpdate{}) {
		return queryOne(ctx, p, "UpdateProfile", p.sql.profile, scanProfile, int64(id))
	}
	return queryOne(ctx, p, "UpdateProfile", p.sql.updateProfile, scanProfile, int64(id), fullName, displayName, bio, zone, timestamp(p.now()))
}

// Profile implements [ProfileStore].
func (p *Postgres) Profile(ctx context.Context, id UserID) (Profile, error) {
	if err := checkID("user_id", id); err != nil {
		return Profile{}, opError("Profile", err)
	}
	return queryOne(ctx, p, "Profile", p.sql.profile, scanProfile, int64(id))
}

// PublicProfiles implements [ProfileStore].
func (p *Postgres) PublicProfiles(ctx context.Context, ids []UserID) (map[UserID]PublicProfile, error) {
	const op = "PublicProfiles"
	list, err := idList(ids)
	if err != nil {
		return nil, opError(op, err)
	}
	profiles, err := queryAll(ctx, p, op, p.sql.publicProfiles, scanPublicProfile, list)
	if err != nil {
		return nil, err
	}
	byID := make(map[UserID]PublicProfile, len(profiles))
	for _, profile := range profiles {
		byID[profile.UserID] = profile
	}
	return byID, nil
}

// idList returns ids as a parameter.
func idList(ids []UserID) ([]int64, error) {
	if len(ids) > maxIDs {
		return nil, invalid("ids", fmt.Sprintf("must be at most %d", maxIDs))
	}
	list := make([]int64, len(ids))
	for i, id := range ids {
		list[i] = int64(id)
	}
	return list, nil
}
