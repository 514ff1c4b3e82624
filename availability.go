package soultribe

import "time"

// NewSlot is a time in which a person is free: the half-open span [Start, End) of instants, in any
// Location, and the IANA zone in which the person thinks of it.
type NewSlot struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Timezone string    `json:"timezone"`
}
