package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"unicode"

	"github.com/confab-im/confab/subjects"
)

// MaxBody is the largest body of a message, in bytes as sent. MaxData is the largest data of a call, in bytes: a largest body and the
// fields beside it.
const (
	MaxBody = 16 << 10
	MaxData = MaxBody + 1<<10
)

// Sizer is a body that may be larger than MaxData because programs of confab send it to each other.
type Sizer interface{ MaxBytes() int }

// Validator is a body that checks its own fields after decoding; the error is an *Error.
type Validator interface{ Validate() error }

// Decode reads one strict JSON object into v, a pointer to a struct, and validates it. The error is an *Error: TooLarge above
// MaxData (or what a Sizer says), BadFrame for JSON that is not strict (also a key that differs from a field in case only), BadID, or BadData with the name of the field.
// Unknown fields are ignored. Empty data counts as {}. Raw JSON in v may be a part of data, which must not change afterwards.
func Decode(data []byte, v any) error {
	limit := MaxData
	if sizer, ok := v.(Sizer); ok {
		limit = sizer.MaxBytes()
	}
	if len(data) > limit {
		return Errorf(TooLarge, "The data has %d bytes; at most %d are allowed.", len(data), limit)
	}
	if quick, ok := v.(quickReader); !ok || !quick.read(data) {
		if err := decodeSlowly(data, v); err != nil {
			return err
		}
	}
	if validator, ok := v.(Validator); ok {
		return validator.Validate()
	}
	return nil
}

// decodeSlowly reads whatever Decode takes, by reflection, and says what is wrong with the rest.
func decodeSlowly(data []byte, v any) error {
	if len(data) == 0 {
		data = []byte("{}")
	}
	if err := checkJSON(data, shapeOf(reflect.TypeOf(v))); err != nil {
		return err
	}
	if !isObject(data) {
		return Errorf(BadData, "The data must be a JSON object.")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return decodeError(err)
	}
	return nil
}

// Marshal returns v as compact JSON. Unlike json.Marshal it leaves '<', '>' and '&' as they are: a body of them would grow sixfold on
// its way into the store, and what a client sent would come back in another spelling.
func Marshal(v any) ([]byte, error) {
	if quick, ok := v.(quickWriter); ok {
		if data, ok := quick.appendTo(make([]byte, 0, sizeOf(quick))); ok {
			return data, nil
		}
	}
	return marshalSlowly(v)
}

// marshalSlowly writes whatever Marshal does, by reflection.
func marshalSlowly(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
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
	folded map[string]struct{} // the same names as fold returns them
	items  *shape              // of an array
	id     bool                // an id that is kept as a string: it may be absent, not empty
}

// fold returns the form in which encoding/json compares names: it takes "uſer" for "user", which lower case would not show.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, name)
}

func (s *shape) allows(key []byte) bool {
	if s == nil || s.fields == nil {
		return true
	}
	if _, ok := s.fields[string(key)]; ok {
		return true
	}
	_, similar := s.folded[fold(string(key))]
	return !similar
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
			if f.Tag.Get("wire") == "id" {
				s.fields[name] = &shape{id: true}
			}
			s.folded[fold(name)] = struct{}{}
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
