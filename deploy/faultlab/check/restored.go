package check

import (
	"github.com/confab-im/confab/deploy/faultlab/history"
)

// told is what a client learns from the store: after a restore it is as if nobody had told it, where the backup had begun before.
var told = map[history.Kind]bool{
	history.Receive: true, history.Member: true, history.Mark: true, history.Unread: true, history.Heard: true, history.Presence: true, history.Revoke: true,
}

// restored returns the history as it is to be judged after restores. What was acknowledged before the backup began counts as ever. What was acknowledged
// from then on until the restore may be there or not, as a send without an answer; what clients saw meanwhile is forgotten.
func restored(records []history.Record) []history.Record {
	var out []history.Record
	backup := -1 // the place of the newest backup in out
	for _, r := range records {
		switch {
		case r.Kind == history.Backup:
			backup = len(out)
		case r.Kind == history.Restored && backup >= 0:
			kept := out[:backup]
			for _, since := range out[backup:] {
				if since.Kind == history.OK {
					since.Kind, since.Seq, since.Duplicate = history.Unknown, 0, false
				}
				if !told[since.Kind] {
					kept = append(kept, since)
				}
			}
			out = kept
		}
		out = append(out, r)
	}
	return out
}
