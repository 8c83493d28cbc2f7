package auth

import (
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Most tokens are confab's own. Their headers and claims are read here by hand, in exactly the form in which sign writes them: by reflection that takes a fifth as long as their signature. What is
// in any other form, or wrong in any way, is left to parseHeader and UnmarshalJSON.

// cutText takes a string that stands for itself in JSON from the beginning of text, behind what comes before it; it goes to the next quotation mark.
func cutText(text *string, before string) (value string, ok bool) {
	rest, ok := strings.CutPrefix(*text, before)
	if !ok {
		return "", false
	}
	for i := range len(rest) {
		switch c := rest[i]; {
		case c == '"':
			value, *text = rest[:i], rest[i:]
			return value, true
		case c < ' ' || c == '\\' || c > '~':
			return "", false
		}
	}
	return "", false
}

// cutDate takes a number of seconds since 1970 with at most three digits behind the point, likewise.
func cutDate(text *string, before string) (date *jwt.NumericDate, ok bool) {
	rest, ok := strings.CutPrefix(*text, before)
	if !ok {
		return nil, false
	}
	digits := func() (n int64, count int) {
		for count < len(rest) && count < 12 && rest[count] >= '0' && rest[count] <= '9' {
			n = 10*n + int64(rest[count]-'0')
			count++
		}
		return n, count
	}
	whole, count := digits()
	if count == 0 || count > 1 && rest[0] == '0' || whole >= maxNumericDate {
		return nil, false
	}
	rest, ms := rest[count:], int64(0)
	if strings.HasPrefix(rest, ".") {
		rest = rest[1:]
		if ms, count = digits(); count == 0 || count > 3 {
			return nil, false
		}
		rest = rest[count:]
		for ; count < 3; count++ {
			ms *= 10
		}
	}
	*text = rest
	return &jwt.NumericDate{Time: time.UnixMilli(1000*whole + ms)}, true
}

// usualHeader reads a header.
func usualHeader(data string) (h header, ok bool) {
	if h.algorithm, ok = cutText(&data, `{"alg":"`); !ok || h.algorithm == "" {
		return header{}, false
	}
	if h.key, ok = cutText(&data, `","kid":"`); !ok || data != `","typ":"JWT"}` {
		return header{}, false
	}
	return h, true
}

// usualClaims reads claims.
func usualClaims(data string) (*claims, bool) {
	var c claims
	var audience string
	for _, part := range []struct {
		before string
		to     *string
	}{{`{"iss":"`, &c.Issuer}, {`","aud":"`, &audience}, {`","sub":"`, &c.Subject}, {`","sid":"`, &c.Session}, {`","jti":"`, &c.ID}} {
		var ok bool
		if *part.to, ok = cutText(&data, part.before); !ok {
			return nil, false
		}
	}
	var ok bool
	if c.Issued, ok = cutDate(&data, `","iat":`); !ok {
		return nil, false
	}
	if c.Expires, ok = cutDate(&data, `,"exp":`); !ok || data != "}" {
		return nil, false
	}
	c.Audience = []string{audience}
	return &c, true
}
