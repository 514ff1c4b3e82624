package schema_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe/schema"
)

func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	tribe := schema.In("tribe_" + run)

	if mismatch, ok := errors.AsType[*schema.MismatchError](schema.Check(ctx, pool, tribe)); ok {
		fmt.Println("missing:", mismatch.Missing)
	}
	fmt.Println("migrate:", schema.Migrate(ctx, pool, tribe))
	fmt.Println("check:", schema.Check(ctx, pool, tribe))

	state, err := schema.Status(ctx, pool, tribe)
	fmt.Printf("version %d of %d, %v\n", state.Version, state.Latest, err)

	broken, err := schema.Audit(ctx, pool, tribe)
	for _, v := range broken {
		fmt.Println(v)
	}
	fmt.Println("audit:", len(broken), err)

	_, err = pool.Exec(ctx, "DROP SCHEMA tribe_"+run+" CASCADE")
	fmt.Println("drop:", err)
	// Output:
	// missing: true
	// migrate: <nil>
	// check: <nil>
	// version 5 of 5, <nil>
	// audit: 0 <nil>
	// drop: <nil>
}
