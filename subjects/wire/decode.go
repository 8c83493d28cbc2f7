package wire

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"

	"github.com/confab-im/confab/subjects"
)

// MaxBody is the largest body of a call, in bytes as sent.
const MaxBody = 16 << 10

// Validator is a body that checks its own fields after decoding; the error is an *Error.
type Validator interface{ Validate() error }

// Decode reads one strict JSON object into v, a pointer to a struct, and validates it. The error is an *Error: TooLarge above
// MaxBody, BadFrame for JSON that is not strict (also a key that differs from a field in case only), BadID, or BadData with the name of the field.
// Unknown fields are ignored. Empty data counts as {}.
func Decode(data []byte, v any) error {
	if len(data) > MaxBody {
		return Errorf(TooLarge, "The body has %d bytes; at most %d are allowed.", len(data), MaxBody)
	}
	if len(data) == 0 {
		data = []byte("{}")
	}
	return decode(data, v)
}

// decode is Decode without the bound on the size, for what other programs of confab sent.
func decode(data []byte, v any) error {
	if err := checkJSON(data, shapeOf(reflect.TypeOf(v))); err != nil {
		return err
	}
	if !isObject(data) {
		return Errorf(BadData, "The data must be a JSON object.")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return decodeError(err)
	}
	if validator, ok := v.(Validator); ok {
		return validator.Validate()
	}
	return nil
}

func decodeError(err error) error {
	if errors.Is(err, subjects.ErrBadID) {
		return Errorf(BadID, "An id is not of the allowed form: lower-case letters, digits, '-' and '_', at most 63 characters.")
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Field != "" {
		return Errorf(BadData, "The field %q has the wrong type.", e.Field)
	}
	return Errorf(BadData, "A field has the wrong type or value.")
}

func isObject(data []byte) bool {
	s := scanner{data: data}
	s.space()
	return s.pos < len(data) && data[s.pos] == '{'
}

// shape is what a Go type expects of JSON: which names, and what is below them. A nil shape expects nothing.
type shape struct {
	fields map[string]*shape   // exact names
	folded map[string]struct{} // the same names in lower case
	items  *shape              // of an array
}

func (s *shape) allows(key []byte) bool {
	if s == nil || s.fields == nil {
		return true
	}
	if _, ok := s.fields[string(key)]; ok {
		return true
	}
	_, fold := s.folded[strings.ToLower(string(key))]
	return !fold
}

func (s *shape) field(key []byte) *shape {
	if s == nil {
		return nil
	}
	return s.fields[string(key)]
}

func (s *shape) element() *shape {
	if s == nil {
		return nil
	}
	return s.items
}

var shapes sync.Map // reflect.Type → *shape

// shapeOf returns the shape of a type, or nil where anything goes. Types do not nest in themselves here.
func shapeOf(t reflect.Type) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if known, ok := shapes.Load(t); ok {
		return known.(*shape)
	}
	var s *shape
	switch {
	case t.Kind() == reflect.Struct && !isOpaque(t):
		s = &shape{fields: map[string]*shape{}, folded: map[string]struct{}{}}
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || !f.IsExported() || name == "-" {
				continue
			}
			if name == "" {
				name = f.Name
			}
			s.fields[name] = shapeOf(f.Type)
			s.folded[strings.ToLower(name)] = struct{}{}
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		s = &shape{items: shapeOf(t.Elem())}
	}
	shapes.Store(t, s)
	return s
}

// isOpaque reports whether the type decodes itself.
func isOpaque(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}
