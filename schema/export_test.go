package schema

// Names of constraints and indexes, by table, that a database must have in the end.
func Names() map[string]string {
	names := map[string]string{}
	for _, i := range indexes {
		names[i.name] = i.table
	}
	for _, k := range constraints {
		names[k.name] = k.table
	}
	return names
}
