package check

import (
	_ "embed"
	"html/template"
	"io"
	"time"
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"short": func(d time.Duration) string { return d.Round(time.Millisecond).String() },
	"list":  func(items ...any) []any { return items },
	"row": func(what string, times Times) any {
		return struct {
			What  string
			Times Times
		}{what, times}
	},
	"share": func(part, whole int) int { return part * 100 / max(1, whole) },
}).Parse(pageSource))

// WritePage writes the verdict as a page of HTML for people; what names the run, such as its command line.
func (v Verdict) WritePage(w io.Writer, what string) error {
	return page.Execute(w, struct {
		Verdict
		What string
	}{v, what})
}
