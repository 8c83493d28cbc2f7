package process

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// hidden is a secret: nothing that prints it reveals it.
type hidden string

func (hidden) String() string               { return "[hidden]" }
func (hidden) MarshalText() ([]byte, error) { return []byte("[hidden]"), nil }

type testConfig struct {
	Log    LogConfig
	Listen string        `conf:"listen" help:"where clients connect"`
	Wait   time.Duration `conf:"wait" help:"how long"`
	Hosts  []string      `conf:"hosts" help:"which hosts"`
	Calls  float64       `conf:"calls" help:"how many"`
	Loud   bool          `conf:"loud" help:"more noise"`
	Key    hidden        `conf:"key" help:"a secret"`
	Peers  []struct {
		Name hidden `yaml:"name"`
		Port int    `yaml:"port"`
	} `conf:"peers" help:"a list"`
}

func TestAFlagWinsOverTheEnvironmentOverTheFileOverTheDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "confab.yaml")
	text := "listen: file\nwait: 3s\ncalls: 2.5\nhosts: [a, b]\npeers:\n  - {name: x, port: 1}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig{Listen: "default", Log: LogConfig{Level: "warn"}}
	rest, err := Load("test", &c, Source{
		Args: []string{"--listen", "flag", "--loud", "more"},
		Env:  []string{"CONFAB_LISTEN=env", "CONFAB_WAIT=4s", "CONFAB_CONFIG=" + file, "OTHER=1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "flag" || c.Wait != 4*time.Second || c.Calls != 2.5 || len(c.Hosts) != 2 || !c.Loud || c.Log.Level != "warn" {
		t.Errorf("loaded %+v", c)
	}
	if len(c.Peers) != 1 || c.Peers[0].Name != "x" || c.Peers[0].Port != 1 {
		t.Errorf("peers are %+v", c.Peers)
	}
	if len(rest) != 1 || rest[0] != "more" {
		t.Errorf("behind the flags stands %q", rest)
	}
}

func TestAnUnknownOrWrongSettingIsAnErrorThatHelps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "confab.yaml")
	if err := os.WriteFile(file, []byte("\nlisten: x\nlisen: y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		src  Source
		want string
	}{
		"a misspelt flag":     {Source{Args: []string{"--lisen=1"}}, `did you mean "listen"?`},
		"a misspelt variable": {Source{Env: []string{"CONFAB_LISEN=1"}}, `CONFAB_LISEN, which is no setting of this program (did you mean "listen"?)`},
		"a misspelt key":      {Source{Args: []string{"--config", file}}, `:3: "lisen" is no setting`},
		"a bad duration":      {Source{Args: []string{"--wait", "soon"}}, `--wait: "soon" is no duration`},
		"a bad number":        {Source{Env: []string{"CONFAB_CALLS=many"}}, `CONFAB_CALLS: "many" is no number`},
		"an unknown subkey":   {Source{Args: []string{"--peers", "[{nam: x}]"}}, "field nam not found"},
		"a missing file":      {Source{Args: []string{"--config", "nowhere.yaml"}}, "read the configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load("test", &testConfig{}, c.src)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want it to contain %q", err, c.want)
			}
		})
	}
}

// family is a configuration that passes on what is for its child.
type family struct {
	testConfig
	child []string
}

func (f *family) Adopt(variables []string) (unknown []string, err error) {
	for _, pair := range variables {
		if strings.HasPrefix(pair, "CONFAB_CHILD_") && len(f.Hosts) > 0 { // settings are read before
			f.child = append(f.child, pair)
		} else {
			unknown = append(unknown, pair)
		}
	}
	return unknown, nil
}

func TestVariablesOfOthersAndListsOfManyFlags(t *testing.T) {
	var f family
	src := Source{Args: []string{"--hosts", "a", "--hosts=b,c"}, Env: []string{"CONFAB_CHILD_NAME=x=y", "CONFAB_WAIT=1s"}}
	if _, err := Load("test", &f, src); err != nil || !reflect.DeepEqual(f.Hosts, []string{"a", "b", "c"}) || !reflect.DeepEqual(f.child, []string{"CONFAB_CHILD_NAME=x=y"}) {
		t.Errorf("loaded %+v, %v", f, err)
	}
	src.Env = append(src.Env, "CONFAB_CHILDREN=2")
	if _, err := Load("test", &family{}, src); err == nil || !strings.Contains(err.Error(), "CONFAB_CHILDREN, which is no setting") {
		t.Errorf("the error is %v", err)
	}
}

func TestHelpListsEverySettingWithItsDefault(t *testing.T) {
	var out strings.Builder
	_, err := Load("test", &testConfig{Listen: "here"}, Source{Args: []string{"--help"}, Help: &out})
	if !errors.Is(err, ErrHelp) {
		t.Fatalf("the error is %v", err)
	}
	for _, want := range []string{"--listen TEXT\n        where clients connect (default here)", "--log TEXT", "--config FILE"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help lacks %q:\n%s", want, out.String())
		}
	}
}

func TestAProgramCanHandItsConfigurationToAnother(t *testing.T) {
	want := testConfig{Listen: "here", Wait: 90 * time.Second, Hosts: []string{"a", "b"}, Calls: 0.5, Loud: true, Key: "k", Log: LogConfig{Level: "debug"}}
	want.Peers = append(want.Peers, struct {
		Name hidden `yaml:"name"`
		Port int    `yaml:"port"`
	}{"x: \"y\"\n", 1})
	environ, err := Environ(&want)
	if err != nil {
		t.Fatal(err)
	}
	var got testConfig
	if _, err := Load("test", &got, Source{Env: environ}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q is read as %+v, %v", environ, got, err)
	}
	if environ, err = Environ(&testConfig{}); err != nil || len(environ) > 0 {
		t.Errorf("an empty configuration is written as %q, %v", environ, err)
	}
}
