package process

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// field is one setting: a field of a Config struct with the tags conf and help.
type field struct {
	name, help string
	value      reflect.Value
}

// fieldsOf returns the settings of a pointer to a struct, in the order of its fields.
func fieldsOf(config any) ([]field, error) {
	v := reflect.ValueOf(config)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("a configuration must be a pointer to a struct, not %T", config)
	}
	return appendFields(nil, v.Elem()), nil
}

func appendFields(fields []field, v reflect.Value) []field {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("conf")
		switch {
		case !f.IsExported() && !f.Anonymous, name == "-":
		case name != "":
			fields = append(fields, field{name: name, help: f.Tag.Get("help"), value: v.Field(i)})
		case f.Type.Kind() == reflect.Struct:
			fields = appendFields(fields, v.Field(i))
		}
	}
	return fields
}

func (f field) isBool() bool { return f.value.Kind() == reflect.Bool }

var durationType = reflect.TypeFor[time.Duration]()

// set parses text into the field. Lists are separated by commas; whatever is neither a scalar nor a list of strings is written as YAML.
func (f field) set(text string) error {
	switch v := f.value; {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration such as 1m30s", text)
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		v.SetInt(n)
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is no whole number from 0", text)
		}
		v.SetUint(n)
	case v.CanFloat():
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", text)
		}
		v.SetFloat(n)
	case isStrings(v):
		list := reflect.MakeSlice(v.Type(), 0, 4)
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = reflect.Append(list, reflect.ValueOf(part).Convert(v.Type().Elem()))
			}
		}
		v.Set(list)
	default:
		return decodeYAML([]byte(text), v)
	}
	return nil
}

// setNode takes the field's value from the configuration file.
func (f field) setNode(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		return f.set(node.Value)
	}
	data, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	return decodeYAML(data, f.value)
}

// decodeYAML refuses keys that the type does not have.
func decodeYAML(data []byte, v reflect.Value) error {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	return decoder.Decode(v.Addr().Interface())
}

func isStrings(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String
}

// kind returns the word that stands for the value in the help.
func (f field) kind() string {
	switch v := f.value; {
	case v.Type() == durationType:
		return "DURATION"
	case v.Kind() == reflect.Bool:
		return ""
	case v.CanInt() || v.CanUint() || v.CanFloat():
		return "NUMBER"
	case isStrings(v):
		return "A,B,…"
	case v.Kind() == reflect.String:
		return "TEXT"
	}
	return "YAML"
}

// preset returns the default as the help shows it, "" where it is empty.
func (f field) preset() string {
	if f.value.IsZero() {
		return ""
	}
	if isStrings(f.value) {
		return strings.Join(stringsOf(f.value), ",")
	}
	return fmt.Sprint(f.value.Interface())
}

func stringsOf(v reflect.Value) []string {
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = v.Index(i).String()
	}
	return parts
}

// text returns the value as set reads it, "" where it is empty. It writes secrets, which are hidden from everything that prints.
func (f field) text() (string, error) {
	switch v := f.value; {
	case v.IsZero():
		return "", nil
	case isStrings(v):
		return strings.Join(stringsOf(v), ","), nil
	case f.kind() == "YAML":
		text, err := yaml.Marshal(plain(v))
		return string(text), err
	}
	return fmt.Sprint(plain(f.value)), nil
}

// plain returns a value without its types, which may hide it from encoders.
func plain(v reflect.Value) any {
	switch {
	case v.Type() == durationType:
		return v.Interface().(time.Duration).String()
	case v.Kind() == reflect.String:
		return v.String()
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return plain(v.Elem())
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case v.Kind() == reflect.Map:
		values := map[string]any{}
		for key, value := range v.Seq2() {
			values[key.String()] = plain(value)
		}
		return values
	case v.Kind() == reflect.Struct:
		values := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); f.IsExported() && name != "-" && !v.Field(i).IsZero() {
				values[cmp.Or(name, strings.ToLower(f.Name))] = plain(v.Field(i))
			}
		}
		return values
	}
	return v.Interface()
}
