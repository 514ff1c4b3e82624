package soultribe

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"
)

// PasswordParams are the costs of argon2id (RFC 9106).
type PasswordParams struct {
	MemoryKiB   uint32 // 8 times Parallelism at least, 4 GiB at most
	Iterations  uint32 // 1 to 100
	Parallelism uint8  // 1 at least; part of the hash, so never the number of CPUs
}

// DefaultPasswordParams returns 64 MiB, 3 iterations and parallelism 4: the second recommended option of
// RFC 9106, section 4, and above the minimum of the OWASP Password Storage Cheat Sheet.
func DefaultPasswordParams() PasswordParams {
	return PasswordParams{MemoryKiB: 64 << 10, Iterations: 3, Parallelism: 4}
}

const (
	maxMemoryKiB  = 4 << 20
	maxIterations = 100

	saltBytes = 16 // RFC 9106, section 3.1
	keyBytes  = 32

	// What a stored hash must have. A shorter key could be guessed, and an empty one matches anything.
	minSaltBytes = 8
	minKeyBytes  = 16
	maxKeyBytes  = 1024
)

func (p PasswordParams) validate() error {
	switch {
	case p.Parallelism < 1:
		return invalid("parallelism", "must be at least 1")
	case p.MemoryKiB < 8*uint32(p.Parallelism) || p.MemoryKiB > maxMemoryKiB:
		return invalid("memory_kib", fmt.Sprintf("must be between 8 for each of parallelism and %d", maxMemoryKiB))
	case p.Iterations < 1 || p.Iterations > maxIterations:
		return invalid("iterations", fmt.Sprintf("must be between 1 and %d", maxIterations))
	}
	return nil
}

// cost is the work of a hash: the memory that it goes over, in KiB.
func (p PasswordParams) cost() uint64 { return uint64(p.MemoryKiB) * uint64(p.Iterations) }

// PasswordHash is a hashed password that HashPassword returned. It prints as [redacted].
type PasswordHash struct{ phc hidden }

const redacted = "[redacted]"

// hidden is text behind a pointer: fmt calls no methods on what is in an unexported field of a caller's
// struct, and then prints an address.
type hidden struct{ text *string }

func hide(text string) hidden { return hidden{&text} }

func (h hidden) reveal() string {
	if h.text == nil {
		return ""
	}
	return *h.text
}

// Format implements [fmt.Formatter]: every verb prints [redacted].
func (PasswordHash) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (PasswordHash) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], and so serves encoding/json.
func (PasswordHash) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// hasher hashes passwords in a bounded amount of memory.
type hasher struct {
	params PasswordParams
	memory *semaphore.Weighted // KiB
	limit  int64
}

func newHasher(c *config) *hasher {
	return &hasher{params: c.params, memory: semaphore.NewWeighted(c.hashMemory), limit: c.hashMemory}
}

// maxCost bounds the work for a stored hash, which a login waits for and cannot leave.
func (h *hasher) maxCost() uint64 { return 8 * max(h.params.cost(), DefaultPasswordParams().cost()) }

// derive computes the key once there is memory for it. A context that ends leaves the queue at once; the
// computation itself is not interrupted.
func (h *hasher) derive(ctx context.Context, password string, salt []byte, params PasswordParams, length int) ([]byte, error) {
	if err := h.memory.Acquire(ctx, int64(params.MemoryKiB)); err != nil {
		return nil, err
	}
	defer h.memory.Release(int64(params.MemoryKiB))
	// Acquire succeeds without a look at the context when nobody waits.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return argon2.IDKey([]byte(password), salt, params.Iterations, params.MemoryKiB, params.Parallelism, uint32(length)), nil //nolint:gosec // bounded by maxKeyBytes
}

func (h *hasher) hash(ctx context.Context, password string) (PasswordHash, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	key, err := h.derive(ctx, password, salt, h.params, keyBytes)
	if err != nil {
		return PasswordHash{}, err
	}
	return PasswordHash{hide(encodeHash(h.params, salt, key))}, nil
}

func encodeHash(params PasswordParams, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		params.MemoryKiB, params.Iterations, params.Parallelism, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// errUnusableHash means that a stored hash is malformed, of another kind, or too costly to compute.
var errUnusableHash = errors.New("stored password hash cannot be used")

// decode reads a stored hash, and refuses it before anything is computed or allocated by what it says.
func (h *hasher) decode(phc string) (params PasswordParams, salt, key []byte, err error) {
	if len(phc) > 4096 {
		return PasswordParams{}, nil, nil, errUnusableHash
	}
	p, salt, key, err := argon2id.DecodeHash(phc)
	if err != nil {
		return PasswordParams{}, nil, nil, errUnusableHash
	}
	params = PasswordParams{MemoryKiB: p.Memory, Iterations: p.Iterations, Parallelism: p.Parallelism}
	if params.validate() != nil || int64(p.Memory) > h.limit || params.cost() > h.maxCost() ||
		len(salt) < minSaltBytes || len(key) < minKeyBytes || len(key) > maxKeyBytes ||
		encodeHash(params, salt, key) != phc { // DecodeHash passes over what stands between or after the parts
		return PasswordParams{}, nil, nil, errUnusableHash
	}
	return params, salt, key, nil
}

// verify tells whether the password is the one that was hashed, and whether the hash should be renewed.
// An unusable hash costs what a usable one does, and then is errUnusableHash.
func (h *hasher) verify(ctx context.Context, password, phc string) (match, lags bool, err error) {
	params, salt, key, err := h.decode(phc)
	if err != nil {
		if e := h.waste(ctx, password); e != nil {
			return false, false, e
		}
		return false, false, err
	}
	derived, err := h.derive(ctx, password, salt, params, len(key))
	if err != nil {
		return false, false, err
	}
	lags = params != h.params || len(key) != keyBytes
	return subtle.ConstantTimeCompare(derived, key) == 1, lags, nil
}

// waste does the work of a verification that has nothing to verify.
func (h *hasher) waste(ctx context.Context, password string) error {
	_, err := h.derive(ctx, password, make([]byte, saltBytes), h.params, keyBytes)
	return err
}
