package soultribe

// ConstraintHasError tells whether the violation of a constraint has a meaning to callers.
func ConstraintHasError(name string) bool { return constraintErrors[name] != nil }

// URLPassword returns the password that PoolConfig takes from a URL.
func URLPassword(databaseURL string) (string, error) {
	config, err := PoolConfig(databaseURL)
	if err != nil {
		return "", err
	}
	return config.ConnConfig.Password, nil
}
