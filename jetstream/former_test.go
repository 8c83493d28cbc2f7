package jetstream_test

import (
	"testing"

	"github.com/confab-im/confab/jetstream"
	"github.com/confab-im/confab/jetstream/jetstreamtest"
	"github.com/confab-im/confab/subjects"
)

// former stores marks the way earlier builds kept them a second time, and the layout as they left it.
func former(t *testing.T, s *jetstream.Store, marks map[string]string) {
	t.Helper()
	put := func(bucket, key, value string) {
		t.Helper()
		if _, err := jetstream.Publish(s, t.Context(), subjects.BucketSubject(bucket, key), nil, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for key, mark := range marks {
		put(subjects.BucketCursors, key, mark)
	}
	put(subjects.BucketConfig, subjects.LayoutKey, `{"layout":1,"partitions":16,"replicas":1,"dedupe_ms":120000}`)
}

// TestMarksOfAnEarlierBuild reads a store in which marks stand twice, before and after it is declared by this one.
func TestMarksOfAnEarlierBuild(t *testing.T) {
	t.Parallel()
	server := jetstreamtest.Start(t)
	s := server.Store(t)
	ctx := t.Context()
	conversations := []subjects.Conversation{"g.talk", "d.ada.bob"}
	twice := map[string]string{"c.g.talk.eve": `{"read":{"seq":1,"count":1}}`, "c.g.talk.bob": `{"read":{"seq":900,"count":900}}`} // what nobody believes
	for _, c := range conversations {
		w := newWriter(t, s, c)
		for range 5 {
			w.post("bob", "text")
		}
		if _, err := s.RaiseCursor(ctx, c, "ada", at(3)); err != nil {
			t.Fatal(err)
		}
		twice["c."+string(c)+".ada"] = `{"read":{"seq":3,"count":3}}`
	}
	former(t, s, twice)
	left := func() int {
		t.Helper()
		names, err := jetstream.Keys(s, ctx, subjects.BucketStream(subjects.BucketCursors), subjects.BucketSubject(subjects.BucketCursors, subjects.FormerCursors))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	check := func(when string, want int) {
		t.Helper()
		if n := left(); n != want {
			t.Errorf("%s: %d marks stand twice, want %d", when, n, want)
		}
		lists := jetstream.NewLists(s, 1<<20)
		agree(t, s, when, lists, "ada", conversations)
		for _, c := range conversations {
			readers, err := s.Readers(ctx, c, []subjects.User{"ada", "bob", "eve"})
			if err != nil || len(readers) != 1 || readers["ada"] != at(3) {
				t.Errorf("%s: the readers of %s are %+v, %v", when, c, readers, err)
			}
		}
		audit, err := s.Verify(ctx, jetstream.VerifyOptions{})
		if err != nil || audit.Marks != len(conversations) {
			t.Errorf("%s: %d marks, %v", when, audit.Marks, err)
		}
		for _, f := range audit.Findings {
			if f.Defect == jetstream.DefectMark {
				t.Errorf("%s: %s", when, f)
			}
		}
	}
	check("before", 4)
	for range 2 {
		if err := jetstream.Declare(ctx, server.Connect(t), jetstream.Profile{}); err != nil {
			t.Fatal(err)
		}
		check("after", 0)
	}
	// An earlier build that still runs beside this one leaves more of them, which do no harm; it is removed where the layout says that there may be some.
	former(t, s, map[string]string{"c.g.talk.ada": `{"read":{"seq":2,"count":2}}`})
	check("beside an earlier build", 1)
	server.Restart(t)
	if err := jetstream.Declare(ctx, server.Connect(t), jetstream.Profile{}); err != nil {
		t.Fatal(err)
	}
	check("at the end", 0)
}
