package soultribe

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	// A host without zone files, such as a container built from scratch, must not change which slots
	// can be stored. The 450 KB are read only for a zone that the host lacks.
	_ "time/tzdata"
)

// zoneName is what a name in the tz database looks like. It leaves no way out of the directory, and
// leaves out what else lies there: the copies under posix and right, localtime, and files with a dot.
var zoneName = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`)

// zones keeps what loadZone has loaded, a *time.Location for each name: reading one again for every slot of
// a list would take longer than to read the slot. Only names of zones get in, some six hundred at most.
var zones sync.Map

// loadZone returns the zone with the given IANA name, "UTC" among them. It returns a *ValidationError
// for any other name, the empty one and "Local" included: both mean a zone to [time.LoadLocation], but
// not the same one on every host.
//
// The zones are those of the host, or of the directory or zip file that the environment variable
// ZONEINFO names, and where those have none of that name, those built in.
func loadZone(name string) (*time.Location, error) {
	kept, _ := zones.Load(name)
	if loc, ok := kept.(*time.Location); ok {
		return loc, nil
	}
	if name == "" {
		return nil, invalid("timezone", "is required")
	}
	if len(name) > 64 || name == "Local" || !zoneName.MatchString(name) {
		return nil, errZone
	}
	loc, err := time.LoadLocation(name)
	if err != nil || !spelledAsOnDisk(name) {
		return nil, errZone
	}
	zones.Store(strings.Clone(name), loc) // the name may be a part of something large
	return loc, nil
}

var errZone = invalid("timezone", "must be the name of an IANA time zone, like Europe/Vienna")

// spelledAsOnDisk reports whether a name for which there is a zone is in the right case. On a file
// system that ignores case, as macOS has it, "Europe/VIENNA" loads, and other hosts would not know it.
func spelledAsOnDisk(name string) bool {
	for _, dir := range zoneDirs() {
		if !spelledAsIn(dir, name) {
			return false
		}
	}
	return true
}

// zoneDirs returns the directories in which time.LoadLocation looks for zone files.
func zoneDirs() []string {
	dirs := []string{"/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"}
	if dir := os.Getenv("ZONEINFO"); dir != "" {
		dirs = append(dirs, dir)
	}
	return dirs
}

func spelledAsIn(dir, name string) bool {
	// Names have a capital letter. Where the name without it is a file too, case does not matter to the
	// file system, and the directories have to be listed to learn the right one.
	if _, err := os.Stat(filepath.Join(dir, strings.ToLower(name))); err != nil {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return true
		}
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == part }) {
			return false
		}
		dir = filepath.Join(dir, part)
	}
	return true
}
