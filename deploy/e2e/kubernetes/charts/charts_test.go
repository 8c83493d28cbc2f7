package charts

import (
	"strings"
	"testing"
)

func TestTheChartRenders(t *testing.T) {
	text, err := Render("../../../chart", "confab", "chat", "functions: {sleep: all}")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: StatefulSet", "name: confab-send", "idleReplicaCount: 0"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the objects hold no %q", want)
		}
	}
	if _, err := Render("../../../chart", "confab", "chat", "nats: {enabled: false}"); err == nil || !strings.Contains(err.Error(), "nats.url") {
		t.Errorf("no server and no address of one: the error is %v", err)
	}
}
