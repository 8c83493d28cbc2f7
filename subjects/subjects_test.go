package subjects

import (
	"hash/fnv"
	"strings"
	"testing"
	"time"
)

// TestPartitionsStay holds conversations where earlier releases put them: a difference would hide their history.
func TestPartitionsStay(t *testing.T) {
	golden := map[Conversation]int{
		"g.general": 0, "g.a": 11, "g.b": 14, "c.news": 3, "c.general": 12, "d.ada.bob": 4, "d.a.b": 2, "d.alice.zoe": 1, "g.x-1_y": 10, "g.0": 8, "c.0": 12,
		"g.conversation-with-a-long-name": 11,
	}
	for c, want := range golden {
		if got := c.Partition(); got != want {
			t.Errorf("%s moved from partition %d to %d", c, want, got)
		}
	}
	var spread [Partitions]int
	for a := range 26 {
		for b := range 26 {
			c := Conversation("g." + string(rune('a'+a)) + string(rune('a'+b)))
			hash := fnv.New32a()
			hash.Write([]byte(c))
			if want := int(hash.Sum32() % Partitions); c.Partition() != want {
				t.Fatalf("%s is in partition %d, by hash/fnv %d", c, c.Partition(), want)
			}
			spread[c.Partition()]++
		}
	}
	for p, n := range spread {
		if n == 0 {
			t.Errorf("no conversation is in partition %d", p)
		}
	}
}

func TestSubjectsAreWhatTheProtocolSays(t *testing.T) {
	for got, want := range map[string]string{
		RPC("send", "post"):                   "im.rpc.send.post",
		Relayed("send", "post"):               "im.call.send.post",
		Service("send"):                       "im-send",
		Scale("send", Up):                     "im.scale.send.up",
		AllOf(Demand):                         "im.scale.*.demand",
		Scale("send", Broken):                 "im.scale.send.broken",
		Registered("send"):                    "im.config.functions.send",
		Job("send", "post"):                   "im.job.send.post",
		Dead("send"):                          "im.dead.send",
		AllJobsOf("send"):                     "im.job.send.>",
		Schedule("send", "nightly"):           "im.sched.send.nightly",
		ConsumerInfo(StreamJobs, "send"):      "$JS.API.CONSUMER.INFO.IM_JOBS.send",
		PullNext(StreamJobs, "send"):          "$JS.API.CONSUMER.MSG.NEXT.IM_JOBS.send",
		Acks(StreamJobs, "send")[1]:           "$JS.ACK.*.*.IM_JOBS.send.>",
		ChangeConsumer(StreamJobs, "*")[1]:    "$JS.API.CONSUMER.CREATE.IM_JOBS.*.>",
		Message("g.general"):                  "im.msg.p00.g.general",
		Live("d.ada.bob"):                     "im.live.d.ada.bob",
		Signal("c.news"):                      "im.signal.c.news",
		UserEvents("ada"):                     "im.user.ada",
		EdgeRequest("e1", EdgeDrain):          "im.edge.e1.drain",
		PresenceSettingOf("ada"):              "im.presence.u.ada",
		PresenceKey("im.presence.e.e1"):       "e.e1",
		MessagesStream(3):                     "IM_MESSAGES_03",
		StreamOf("g.general"):                 "IM_MESSAGES_00",
		PartitionMessages(3):                  "im.msg.p03.>",
		BucketStream(BucketUsers):             "KV_IM_USERS",
		BucketSubject(BucketUsers, "ada"):     "$KV.IM_USERS.ada",
		MemberKey("g.general", "ada"):         "c.g.general.ada",
		MembersPattern("g.general"):           "c.g.general.*",
		MembershipKey("ada", "g.general"):     "u.ada.g.general",
		MembershipsPattern("ada"):             "u.ada.>",
		CursorKey("ada", "d.ada.bob"):         "u.ada.d.ada.bob",
		PurgeStream("KV_IM_CURSORS"):          "$JS.API.STREAM.PURGE.KV_IM_CURSORS",
		LeaseKey("e1"):                        "e.e1",
		DeviceKey("ada", "web-1"):             "s.ada.web-1",
		DevicesPattern("ada"):                 "s.ada.*",
		AmendsKey("g.general", 1<<64-1):       "g.general.18446744073709551615",
		BucketSubject(BucketAmends, "g.a.10"): "$KV.IM_AMENDS.g.a.10",
		CreateStream(StreamJobs):              "$JS.API.STREAM.CREATE.IM_JOBS",
		UpdateStream(StreamJobs):              "$JS.API.STREAM.UPDATE.IM_JOBS",
		ConsumerReads(StreamJobs)[2]:          "$JS.API.CONSUMER.INFO.IM_JOBS.*",
		InboxPrefix("send"):                   "_INBOX_send",
	} {
		if got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}

func TestPatternsMatchTheirSubjectsOnly(t *testing.T) {
	subjects := map[string][]string{
		AllRPC:                               {RPC("send", "post")},
		AllCalls:                             {Relayed("send", "post")},
		AllScale:                             {Scale("send", Up), Scale("send", Bye), Scale("send", Who), Scale("send", Demand)},
		AllOf(Up):                            {Scale("send", Up)},
		AllRegistered:                        {Registered("send")},
		AllMessages:                          {Message("g.a"), Message("d.a.b"), Message("c.a")},
		AllLive:                              {Live("g.a"), Live("d.a.b"), Live("c.a")},
		AllLiveDirect:                        {Live("d.a.b")},
		AllSignals:                           {Signal("d.a.b"), Signal("g.a"), Signal("c.a")},
		AllSignalDirect:                      {Signal("d.a.b")},
		AllUserEvents:                        {UserEvents("ada")},
		AllEdges:                             {EdgeRequest("e1", EdgeDrain)},
		AllJobs:                              {Job("send", "post")},
		AllDead:                              {Dead("send")},
		AllLeases:                            {presencePrefix + LeaseKey("e1")},
		AllDevices:                           {presencePrefix + DeviceKey("ada", "web")},
		PartitionMessages(0):                 {Message("g.general")},
		BucketSubject(BucketMembers, ">"):    {BucketSubject(BucketMembers, "u.ada.g.a")},
		MembersPattern("g.a"):                {MemberKey("g.a", "ada")},
		MembershipsPattern("ada"):            {MembershipKey("ada", "g.a"), MembershipKey("ada", "d.ada.bob")},
		CursorsPattern("ada"):                {CursorKey("ada", "g.a"), CursorKey("ada", "d.ada.bob")},
		BucketSubject(BucketPresence, "e.*"): {BucketSubject(BucketPresence, LeaseKey("e1"))},
	}
	for pattern, matched := range subjects {
		for _, s := range matched {
			if !matches(pattern, s) {
				t.Errorf("%s does not match %s", pattern, s)
			}
		}
	}
	for pattern, other := range map[string]string{
		AllLiveDirect: Live("g.d"), AllSignalDirect: Signal("c.d"), AllRPC: Job("send", "post"), AllOf(Up): Scale("send", Bye),
		MembersPattern("g.a"): MemberKey("g.ab", "ada"), MembershipsPattern("ada"): MembershipKey("adam", "g.a"), PartitionMessages(1): Message("g.general"),
	} {
		if matches(pattern, other) {
			t.Errorf("%s matches %s", pattern, other)
		}
	}
}

func TestForeignSubjectsAreNotParsed(t *testing.T) {
	for _, s := range []string{"", "g.general", "im.live.", "im.live", "im.signal.g.a", "x.im.live.g.a", "im.live.g.*", "im.live.>"} {
		if c, err := ParseLive(s); err == nil {
			t.Errorf("%q was read as %q", s, c)
		}
	}
	if c, err := ParseSignal("im.live.g.a"); err == nil {
		t.Errorf("a live subject was read as a signal in %q", c)
	}
}

// matches is the rule of NATS: a star stands for one token, a final > for one or more.
func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range p {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || (token != "*" && token != s[i]) {
			return false
		}
	}
	return len(p) == len(s)
}

func TestDeliveriesAreRead(t *testing.T) {
	want := Delivery{Stream: "IM_MESSAGES_00", Sequence: 57, Tries: 2, Stored: time.Unix(0, 1795187045123456789)}
	for _, reply := range []string{
		"$JS.ACK.IM_MESSAGES_00.counter.2.57.60.1795187045123456789.3",
		"$JS.ACK.hub.Ab3xZ.IM_MESSAGES_00.counter.2.57.60.1795187045123456789.3",
		"$JS.ACK._.Ab3xZ.IM_MESSAGES_00.counter.2.57.60.1795187045123456789.3.token",
	} {
		if got, ok := ParseDelivery(reply); !ok || got.Stream != want.Stream || got.Sequence != want.Sequence || got.Tries != want.Tries || !got.Stored.Equal(want.Stored) {
			t.Errorf("%s is read as %+v, %v", reply, got, ok)
		}
	}
	for _, reply := range []string{
		"", "_INBOX.x", "$JS.ACK.", "$JS.ACK.S.c.0.57.60.1.3", "$JS.ACK.S.c.1.0.60.1.3", "$JS.ACK.S.c.-1.57.60.1.3", "$JS.ACK.S.c.x.57.60.1.3", "$JS.ACK.S.c.1.57.60",
	} {
		if got, ok := ParseDelivery(reply); ok {
			t.Errorf("%s is read as %+v", reply, got)
		}
	}
}

func TestJobsAndSchedulesAreRead(t *testing.T) {
	if f, m, err := ParseJob(Job("send", "post")); err != nil || f != "send" || m != "post" {
		t.Errorf("a job is read as %s.%s, %v", f, m, err)
	}
	if f, id, err := ParseSchedule(Schedule("send", "nightly")); err != nil || f != "send" || id != "nightly" {
		t.Errorf("a schedule is read as %s, %s, %v", f, id, err)
	}
	for _, subject := range []string{"im.job.send", "im.job.send.a.b", "im.rpc.send.post", "im.job.*.post"} {
		if f, m, err := ParseJob(subject); err == nil {
			t.Errorf("%s is read as %s.%s", subject, f, m)
		}
	}
	for _, subject := range []string{"im.sched.send", "im.sched.send.>", "im.sched.*.x", "im.sched.send.a.b", "im.job.send.post"} {
		if f, id, err := ParseSchedule(subject); err == nil {
			t.Errorf("%s is read as %s, %s", subject, f, id)
		}
	}
}
