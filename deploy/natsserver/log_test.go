package natsserver

import "testing"

func TestTheServersLogSaysWhoWasRefused(t *testing.T) {
	const history, viewer = "UC6HSENV5XECLOGFWEN7QH77RDCLMMVITCMSOEDMFO6XXCC7OR2Q72PM", "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	names := map[string]string{history: "history", viewer: "viewer"}
	for line, want := range map[string]string{
		`127.0.0.1:58804 - cid:91 - "v1.55.0:go:im-history" - "CONFAB/nkey:` + history + `" - Publish Violation - Subject "im.msg.p00.g.x"`:                                         "history",
		`pipe:58804 - cid:91 - "v1.55.0:go" - "CONFAB_VIEWERS/nkey:` + viewer + `" - Subscription Violation - Subject im.msg.>, SID 4`:                                              "viewer",
		`127.0.0.1:58804 - cid:91 - "go:x" - "CONFAB/nkey:` + history + `" - Publish Violation" - "CONFAB_VIEWERS/nkey:` + viewer + `" - Publish Violation - Subject "im.live.g.x"`: "viewer",
		`127.0.0.1:58804 - cid:91 - Publish Violation - Subject "im.live.g.x"`:                                                                                                      "unknown",
		`JetStream failed to store a msg on stream 'CONFAB > IM_JOBS'`:                                                                                                              "",
	} {
		user, ok := violator(line, names)
		if ok != (want != "") || ok && user != want {
			t.Errorf("%s is read as of %s, %v", line, user, ok)
		}
	}
}
