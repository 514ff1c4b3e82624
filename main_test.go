package soultribe_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(clientVariable); what != "" {
		if err := beClient(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(soultribetest.Main(m))
}
