package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v3"
)

// configFile is the file that -config names: TOML, with one key a flag, spelled as the flag is. It is where a flag gets
// its value that neither the command line nor the environment gives. It also notes where each flag's value came from.
type configFile struct {
	path    string            // set by -config, or RAFT3D_CONFIG
	read    string            // the path that values and err are of
	values  map[string]string // as a command line would have them
	err     error
	origins map[string]string // by flag; only of those that the command line does not have
}

// load reads the file, once. What is wrong with it is reported by check: a source of values has no way to say so.
func (f *configFile) load() map[string]string {
	if f.path != f.read { // at first both are empty: there is no file
		f.read = f.path
		f.values, f.err = readConfigFile(f.path)
	}
	return f.values
}

// check says what is wrong with the file.
func (f *configFile) check(flags []cli.Flag) error {
	values := f.load()
	if f.err != nil {
		return usagef("-config=%s: %v", f.path, f.err)
	}
	known := map[string]bool{}
	for _, flag := range flags {
		known[flag.Names()[0]] = flag.Names()[0] != "config"
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !known[key] {
			return usagef("-config=%s: %s is no flag of a node; raft3d -h lists them", f.path, key)
		}
	}
	return nil
}

func readConfigFile(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var keys map[string]any
	if _, err := toml.Decode(string(text), &keys); err != nil {
		return nil, err
	}
	values := map[string]string{}
	for key, value := range keys {
		if values[key], err = flagValue(value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return values, nil
}

// flagValue is a value of the file as a command line would have it.
func flagValue(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case bool:
		return strconv.FormatBool(value), nil
	case int64:
		return strconv.FormatInt(value, 10), nil
	case []any:
		var parts []string
		for _, part := range value {
			text, ok := part.(string)
			if !ok {
				return "", fmt.Errorf("a list must be of strings")
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("must be a string, a whole number, true or false, or a list of strings; a time is a string such as \"1s\"")
}

// sources are where the flag of that name gets its value from that the command line does not give.
func (f *configFile) sources(name string) cli.ValueSourceChain {
	if f.origins == nil {
		f.origins = map[string]string{}
	}
	chain := cli.ValueSourceChain{}
	for _, env := range flagEnv(name).Chain {
		chain.Chain = append(chain.Chain, source{env, name, f})
	}
	chain.Chain = append(chain.Chain, source{configKey{f, name}, name, f})
	return chain
}

// source is a ValueSource that notes when its value was taken. cli asks sources in order, and only for flags that the
// command line does not have.
type source struct {
	cli.ValueSource
	flag string
	file *configFile
}

func (s source) Lookup() (string, bool) {
	value, found := s.ValueSource.Lookup()
	if _, noted := s.file.origins[s.flag]; found && !noted {
		s.file.origins[s.flag] = s.String()
	}
	return value, found
}

// configKey is one key of the file.
type configKey struct {
	file *configFile
	key  string
}

func (k configKey) Lookup() (string, bool) {
	value, found := k.file.load()[k.key]
	return value, found
}

func (k configKey) String() string   { return k.file.path }
func (k configKey) GoString() string { return fmt.Sprintf("configKey(%s, %s)", k.file.path, k.key) }
