// Package schema describes to ent the tables that the migrations of soultribe make.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
)

func table(name string) []schema.Annotation {
	return []schema.Annotation{entsql.Annotation{Table: name}}
}

// User is the table user.
type User struct{ ent.Schema }

// Annotations names the table.
func (User) Annotations() []schema.Annotation { return table("user") }

// Fields are the columns.
func (User) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.String("email"),
		field.String("password_hash"),
		field.Time("email_verified_at").Optional().Nillable(),
		field.Time("created_at"),
		field.Time("credentials_changed_at").Optional().Nillable(),
	}
}

// Profile is the table profile. Its primary key is its foreign key, for which ent has no edge.
type Profile struct{ ent.Schema }

// Annotations names the table.
func (Profile) Annotations() []schema.Annotation { return table("profile") }

// Fields are the columns.
func (Profile) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id").StorageKey("user_id"),
		field.String("full_name"),
		field.String("display_name"),
		field.String("bio").Optional().Nillable(),
		field.String("timezone").Optional().Nillable(),
		field.Time("created_at"),
		field.Time("updated_at"),
	}
}

// Slot is the table availabilityslot.
type Slot struct{ ent.Schema }

// Annotations names the table.
func (Slot) Annotations() []schema.Annotation { return table("availabilityslot") }

// Fields are the columns.
func (Slot) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.Int64("user_id"),
		field.Time("start_dt_utc"),
		field.Time("end_dt_utc"),
		field.Time("start_dt_local"),
		field.Time("end_dt_local"),
		field.String("timezone"),
		field.Time("created_at"),
		field.Time("updated_at"),
	}
}

// Verification is the table emailverificationtoken.
type Verification struct{ ent.Schema }

// Annotations names the table.
func (Verification) Annotations() []schema.Annotation { return table("emailverificationtoken") }

// Fields are the columns.
func (Verification) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.Int64("user_id"),
		field.String("token"),
		field.Time("expires_at"),
		field.Time("used_at").Optional().Nillable(),
		field.Time("created_at"),
		field.String("sent_to").Optional().Nillable(),
	}
}

// Match is the table match.
type Match struct{ ent.Schema }

// Annotations names the table.
func (Match) Annotations() []schema.Annotation { return table("match") }

// Fields are the columns.
func (Match) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.Int64("user1_id"),
		field.Int64("user2_id"),
		field.String("status"),
		field.Time("created_at"),
		field.Time("updated_at"),
	}
}

// Edges are the two people.
func (Match) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("user1", User.Type).Field("user1_id").Unique().Required(),
		edge.To("user2", User.Type).Field("user2_id").Unique().Required(),
	}
}

// Meetup is the table meetup.
type Meetup struct{ ent.Schema }

// Annotations names the table.
func (Meetup) Annotations() []schema.Annotation { return table("meetup") }

// Fields are the columns.
func (Meetup) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id"),
		field.Int64("match_id"),
		field.Int64("proposer_id").Optional().Nillable(),
		field.Time("scheduled_time"),
		field.Int64("duration_seconds").Optional().Nillable(),
		field.String("status"),
		field.Time("created_at"),
		field.Time("updated_at"),
	}
}

// Edges are the match.
func (Meetup) Edges() []ent.Edge {
	return []ent.Edge{edge.To("match", Match.Type).Field("match_id").Unique().Required()}
}

// Booking is the table soultribe_booking, which only a trigger writes. ent wants one column to be the key.
type Booking struct{ ent.Schema }

// Annotations names the table.
func (Booking) Annotations() []schema.Annotation { return table("soultribe_booking") }

// Fields are the columns.
func (Booking) Fields() []ent.Field {
	return []ent.Field{
		field.Int64("id").StorageKey("meetup_id"),
		field.Int64("user_id"),
		field.Time("starts_at"),
		field.Time("ends_at"),
	}
}
