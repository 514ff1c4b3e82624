package soultribe

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// cheap are parameters of a test, with memory for four hashes at a time.
var cheap = &config{params: PasswordParams{MemoryKiB: 64, Iterations: 1, Parallelism: 1}, hashMemory: 4 * 64}

const (
	someSalt = "c2FsdHNhbHRzYWx0c2FsdA"
	someKey  = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// unusable are hashes that must be refused before anything is computed by what they say.
var unusable = map[string]string{
	"empty":                  "",
	"development row":        "argon2$dev",
	"plain text":             "correct horse",
	"no parts":               "$$$$$",
	"bcrypt":                 "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m",
	"argon2i":                "$argon2i$v=19$m=64,t=1,p=1$" + someSalt + "$" + someKey,
	"argon2d":                "$argon2d$v=19$m=64,t=1,p=1$" + someSalt + "$" + someKey,
	"version 16":             "$argon2id$v=16$m=64,t=1,p=1$" + someSalt + "$" + someKey,
	"no version":             "$argon2id$m=64,t=1,p=1$" + someSalt + "$" + someKey,
	"empty key":              "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$",
	"short key":              "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$AAAA",
	"empty salt":             "$argon2id$v=19$m=64,t=1,p=1$$" + someKey,
	"short salt":             "$argon2id$v=19$m=64,t=1,p=1$AAAA$" + someKey,
	"no memory":              "$argon2id$v=19$m=0,t=1,p=1$" + someSalt + "$" + someKey,
	"too little memory":      "$argon2id$v=19$m=15,t=1,p=2$" + someSalt + "$" + someKey,
	"all the memory":         "$argon2id$v=19$m=4294967295,t=1,p=1$" + someSalt + "$" + someKey,
	"more than all":          "$argon2id$v=19$m=4294967296,t=1,p=1$" + someSalt + "$" + someKey,
	"more than the ceiling":  "$argon2id$v=19$m=257,t=1,p=1$" + someSalt + "$" + someKey,
	"negative memory":        "$argon2id$v=19$m=-64,t=1,p=1$" + someSalt + "$" + someKey,
	"no iterations":          "$argon2id$v=19$m=64,t=0,p=1$" + someSalt + "$" + someKey,
	"endless iterations":     "$argon2id$v=19$m=64,t=4294967295,p=1$" + someSalt + "$" + someKey,
	"too many iterations":    "$argon2id$v=19$m=64,t=101,p=1$" + someSalt + "$" + someKey,
	"no parallelism":         "$argon2id$v=19$m=64,t=1,p=0$" + someSalt + "$" + someKey,
	"parallelism 256":        "$argon2id$v=19$m=64,t=1,p=256$" + someSalt + "$" + someKey,
	"too much parallelism":   "$argon2id$v=19$m=64,t=1,p=255$" + someSalt + "$" + someKey,
	"all parallelism":        "$argon2id$v=19$m=2040,t=1,p=255$" + someSalt + "$" + someKey,
	"nothing at all":         "$argon2id$v=19$m=0,t=0,p=0$" + someSalt + "$" + someKey,
	"everything":             "$argon2id$v=19$m=4294967295,t=4294967295,p=255$" + someSalt + "$" + someKey,
	"negative iterations":    "$argon2id$v=19$m=64,t=-1,p=1$" + someSalt + "$" + someKey,
	"negative parallelism":   "$argon2id$v=19$m=64,t=1,p=-1$" + someSalt + "$" + someKey,
	"memory wraps around":    "$argon2id$v=19$m=4294967360,t=1,p=1$" + someSalt + "$" + someKey,
	"iterations wrap around": "$argon2id$v=19$m=64,t=4294967297,p=1$" + someSalt + "$" + someKey,
	"parallelism wraps":      "$argon2id$v=19$m=64,t=1,p=257$" + someSalt + "$" + someKey,
	"beyond 64 bits":         "$argon2id$v=19$m=18446744073709551680,t=1,p=1$" + someSalt + "$" + someKey,
	"other order":            "$argon2id$v=19$t=1,m=64,p=1$" + someSalt + "$" + someKey,
	"junk after parameters":  "$argon2id$v=19$m=64,t=1,p=1,keyid=1$" + someSalt + "$" + someKey,
	"junk after the version": "$argon2id$v=19x$m=64,t=1,p=1$" + someSalt + "$" + someKey,
	"junk before":            "argon2$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + someKey,
	"junk after":             "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + someKey + "$",
	"leading zero":           "$argon2id$v=19$m=064,t=1,p=1$" + someSalt + "$" + someKey,
	"space":                  "$argon2id$v=19$m= 64,t=1,p=1$" + someSalt + "$" + someKey,
	"newline in the key":     "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + someKey + "\n",
	"padded base64":          "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "==$" + someKey + "=",
	"base64 of URLs":         "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + strings.Repeat("-_", 21) + "A",
	"not base64":             "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + strings.Repeat("*", 43),
	"loose bits in base64":   "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + strings.Repeat("A", 42) + "B",
	"long key":               "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + strings.Repeat("A", 1368),
	"huge key":               "$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + strings.Repeat("A", 16<<20),
	"huge salt":              "$argon2id$v=19$m=64,t=1,p=1$" + strings.Repeat("A", 16<<20) + "$" + someKey,
	"huge number":            "$argon2id$v=19$m=" + strings.Repeat("9", 16<<20) + ",t=1,p=1$" + someSalt + "$" + someKey,
	"many parts":             strings.Repeat("$", 16<<20),
}

// TestUnusableHashes would hang or run out of memory where a hash were computed as it says: more than the
// ceiling never gets past the semaphore.
func TestUnusableHashes(t *testing.T) {
	t.Parallel()
	h := newHasher(cheap)
	for name, phc := range unusable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, _, err := h.decode(phc)
			require.ErrorIs(t, err, errUnusableHash)
			h := newHasher(cheap) // whose memory is this hash's alone
			work := &workload{Context: t.Context(), hasher: h}
			for _, password := range []string{"", "correct horse", phc[:min(len(phc), 100)]} {
				match, lags, err := h.verify(work, password, phc)
				require.ErrorIs(t, err, errUnusableHash)
				require.False(t, match)
				require.False(t, lags)
			}
			require.Equal(t, []int64{64, 64, 64}, work.hashes)
		})
	}
}

// TestHashVectors are hashes of "correct horse" from argon2-cffi and passlib.
func TestHashVectors(t *testing.T) {
	t.Parallel()
	h := newHasher(&config{params: DefaultPasswordParams(), hashMemory: 256 << 10})
	for _, phc := range []string{
		"$argon2id$v=19$m=102400,t=2,p=8$Y53fTtr1rTH8D3HTnEquBg$vUTstBPk13W9sTn9fhenKA",
		"$argon2id$v=19$m=102400,t=2,p=8$+J8TYgxhzPk/p3TOmfPeew$YxxA0KvUkRw9/yjXdLg8Pw",
	} {
		match, lags, err := h.verify(t.Context(), "correct horse", phc)
		require.NoError(t, err)
		require.True(t, match)
		require.True(t, lags)
		match, _, err = h.verify(t.Context(), "correct horse ", phc)
		require.NoError(t, err)
		require.False(t, match)
	}
	own, err := h.hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, own.phc.reveal())
	match, lags, err := h.verify(t.Context(), "correct horse", own.phc.reveal())
	require.NoError(t, err)
	require.True(t, match)
	require.False(t, lags)
}

func TestHashLags(t *testing.T) {
	t.Parallel()
	h := newHasher(cheap)
	for _, params := range []PasswordParams{{64, 2, 1}, {128, 1, 1}, {64, 1, 2}} {
		other := newHasher(&config{params: params, hashMemory: 256})
		hash, err := other.hash(t.Context(), "correct horse")
		require.NoError(t, err)
		match, lags, err := h.verify(t.Context(), "correct horse", hash.phc.reveal())
		require.NoError(t, err)
		require.True(t, match)
		require.True(t, lags, "%v", params)
	}
}

// workload is a context whose Err, which derive asks once for each hash, while it holds the hash's memory, keeps
// how much that is. The hasher must be nobody else's.
type workload struct {
	context.Context
	hasher *hasher
	hashes []int64 // the memory of each, in KiB
}

func (w *workload) Err() error {
	var free int64
	for w.hasher.memory.TryAcquire(1) {
		free++
	}
	w.hasher.memory.Release(free)
	w.hashes = append(w.hashes, w.hasher.limit-free)
	return w.Context.Err()
}

// TestLoginsHashTheSame counts the hashing of logins that fail. Where the stored hash has the Store's
// parameters, or is none, nothing tells them apart.
func TestLoginsHashTheSame(t *testing.T) {
	t.Parallel()
	p := idleStore(t)
	own, err := p.HashPassword(t.Context(), "correct horse")
	require.NoError(t, err)
	wrong := map[string]func(ctx context.Context) error{
		"no address": func(ctx context.Context) error { _, err := p.Authenticate(ctx, "", "correct horse"); return err },
		"wrong password": func(ctx context.Context) error {
			_, err := p.verify(ctx, credentials{hash: own.phc.reveal()}, "wrong")
			return err
		},
	}
	for name, phc := range unusable {
		wrong[name] = func(ctx context.Context) error {
			_, err := p.verify(ctx, credentials{hash: phc}, "correct horse")
			return err
		}
	}
	for name, login := range wrong {
		work := &workload{Context: t.Context(), hasher: p.hasher}
		require.ErrorIs(t, login(work), ErrInvalidCredentials, name)
		require.Equal(t, []int64{int64(cheap.params.MemoryKiB)}, work.hashes, name)
	}
}

// gate is a context whose Err, which derive asks while it holds its memory, waits to be let through.
type gate struct {
	context.Context
	entered         chan struct{}
	admit           chan struct{}
	inside, through atomic.Int64
	most            atomic.Int64
}

func (g *gate) Err() error {
	now := g.inside.Add(1) - g.through.Load()
	for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); most = g.most.Load() {
	}
	g.entered <- struct{}{}
	<-g.admit
	return nil
}

// idleStore is a Store whose database is never asked.
func idleStore(t *testing.T) *Postgres {
	t.Helper()
	p, err := New(new(pgx.Conn), WithPasswordParams(cheap.params), WithHashMemory(cheap.hashMemory))
	require.NoError(t, err)
	return p
}

// TestHashMemoryIsBounded has 200 calls at one time: logins, without an address, with the right and a wrong
// password and against an unusable hash, and passwords that are hashed.
func TestHashMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const calls, room = 200, 4
	p := idleStore(t)
	hash, err := p.HashPassword(t.Context(), "correct horse")
	require.NoError(t, err)
	verify := func(ctx context.Context, password, hash string) error {
		_, err := p.verify(ctx, credentials{hash: hash}, password)
		return err
	}
	kinds := []struct {
		want error
		call func(ctx context.Context) error
	}{
		{nil, func(ctx context.Context) error { return verify(ctx, "correct horse", hash.phc.reveal()) }},
		{ErrInvalidCredentials, func(ctx context.Context) error { return verify(ctx, "wrong", hash.phc.reveal()) }},
		{ErrInvalidCredentials, func(ctx context.Context) error { return verify(ctx, "correct horse", "argon2$dev") }},
		{ErrInvalidCredentials, func(ctx context.Context) error { _, err := p.Authenticate(ctx, "", "correct horse"); return err }},
		{nil, func(ctx context.Context) error { _, err := p.HashPassword(ctx, "correct horse"); return err }},
	}
	g := &gate{Context: t.Context(), entered: make(chan struct{}, calls), admit: make(chan struct{})}
	var done sync.WaitGroup
	for i := range calls {
		done.Go(func() {
			kind := kinds[i%len(kinds)]
			if err := kind.call(g); !errors.Is(err, kind.want) {
				t.Errorf("call %d: %v, not %v", i, err, kind.want)
			}
		})
	}
	for range room {
		<-g.entered
	}
	require.False(t, p.hasher.memory.TryAcquire(1), "there is memory left")
	for range calls - room {
		g.through.Add(1)
		g.admit <- struct{}{}
		<-g.entered
	}
	for range room {
		g.through.Add(1)
		g.admit <- struct{}{}
	}
	done.Wait()
	require.EqualValues(t, room, g.most.Load(), "hashes in memory at one time")
	require.True(t, p.hasher.memory.TryAcquire(p.hasher.limit), "memory was not given back")
}

// TestHashQueueIsLeft has 200 calls wait for memory that nobody gives back. They return when their context
// ends, and only then.
func TestHashQueueIsLeft(t *testing.T) {
	t.Parallel()
	p := idleStore(t)
	h := p.hasher
	require.NoError(t, h.memory.Acquire(t.Context(), h.limit))
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for i := range 200 {
		go func() {
			var err error
			if i%2 == 0 {
				_, err = p.HashPassword(ctx, "correct horse")
			} else {
				_, err = p.Authenticate(ctx, "", "correct horse")
			}
			errs <- err
		}()
	}
	select {
	case err := <-errs:
		t.Fatalf("returned without memory: %v", err)
	default:
	}
	cancel()
	for range 200 {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	h.memory.Release(h.limit)
	require.True(t, h.memory.TryAcquire(h.limit), "memory was not given back")
	h.memory.Release(h.limit)

	// With memory to spare, too, a context that has ended gets none.
	_, err := h.hash(ctx, "correct horse")
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, h.memory.TryAcquire(h.limit), "memory was not given back")
}

func TestPasswordParams(t *testing.T) {
	t.Parallel()
	for params, field := range map[PasswordParams]string{
		DefaultPasswordParams(): "",
		{8, 1, 1}:               "",
		{8 * 255, 100, 255}:     "",
		{4 << 20, 1, 1}:         "",
		{}:                      "parallelism",
		{64, 1, 0}:              "parallelism",
		{7, 1, 1}:               "memory_kib",
		{31, 1, 4}:              "memory_kib",
		{4<<20 + 1, 1, 1}:       "memory_kib",
		{1<<32 - 1, 1, 1}:       "memory_kib",
		{64, 0, 1}:              "iterations",
		{64, 101, 1}:            "iterations",
	} {
		err := params.validate()
		if field == "" {
			require.NoError(t, err, "%v", params)
			continue
		}
		require.ErrorIs(t, err, ErrInvalid)
		require.Equal(t, field, ValidationErrors(err)[0].Field, "%v", params)
	}
}

// FuzzDecodeHash checks that no stored hash is computed whose parameters are beyond the bounds, and that a
// hash has one spelling.
func FuzzDecodeHash(f *testing.F) {
	h := newHasher(cheap)
	for _, phc := range unusable {
		if len(phc) < 5000 {
			f.Add(phc)
		}
	}
	f.Add("$argon2id$v=19$m=64,t=1,p=1$" + someSalt + "$" + someKey)
	f.Add("$argon2id$v=19$m=256,t=100,p=32$" + someSalt + "$" + someKey)
	f.Fuzz(func(t *testing.T, phc string) {
		params, salt, key, err := h.decode(phc)
		if err != nil {
			if !errors.Is(err, errUnusableHash) || params != (PasswordParams{}) || salt != nil || key != nil {
				t.Fatalf("%v with %v, %d and %d bytes", err, params, len(salt), len(key))
			}
			return
		}
		if err := params.validate(); err != nil {
			t.Fatal(err)
		}
		if int64(params.MemoryKiB) > h.limit || len(salt) < 8 || len(key) < 16 || len(key) > 1024 {
			t.Fatalf("%v with a salt of %d and a key of %d bytes", params, len(salt), len(key))
		}
		if again := encodeHash(params, salt, key); again != phc {
			t.Fatalf("%q is another spelling of %q", phc, again)
		}
	})
}

// FuzzEmail checks that an address that is kept can be found, and breaks no header.
func FuzzEmail(f *testing.F) {
	for _, email := range []string{"ann@x.org", " Ann+tag@Example.ORG\n", "ünï@bücher.example", "ann@[127.0.0.1]", `"a b"@x.org`, "a@x,b@y", "Ann <ann@x.org>", "ann@x.org\r\nBcc: b@y", "=?utf-8?q?a?=@x.org", "\xff@x.org", "a@b@c"} {
		f.Add(email)
	}
	f.Fuzz(func(t *testing.T, given string) {
		email, err := newEmail(given)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || email != "" {
				t.Fatalf("%q, %v", email, err)
			}
			return
		}
		if email != strings.TrimSpace(given) || len(email) > 254 || !storable(email) || hasControl(email) ||
			strings.Count(email, "@") != 1 || strings.ContainsAny(email, " \r\n<>()[],;:\\\"") {
			t.Fatalf("%q is kept", email)
		}
		if again, err := newEmail(email); err != nil || again != email {
			t.Fatalf("%q becomes %q, %v", email, again, err)
		}
		if found, err := lookupEmail(given); err != nil || found != email {
			t.Fatalf("%q is looked up as %q, %v", email, found, err)
		}
	})
}
