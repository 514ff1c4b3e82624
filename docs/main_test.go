package docs_test

import (
	"os"
	"testing"

	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestMain(m *testing.M) { os.Exit(soultribetest.Main(m)) }
