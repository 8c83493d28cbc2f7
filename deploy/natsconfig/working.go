package natsconfig

import (
	"github.com/confab-im/confab/deploy/manifest"
	"github.com/confab-im/confab/subjects"
)

// working returns what a function publishes to get its entries and jobs and to say what became of them. Its consumers hand it whole streams, so it may look
// whether an entry is still there as well. It makes no consumers: where one delivers is its maker's choice.
func working(m manifest.Manifest) []string {
	if !m.Works() {
		return nil
	}
	streams := []string{subjects.StreamJobs}
	if len(m.Events) > 0 {
		streams = append(streams, messageStreams()...)
	}
	publish := []string{subjects.Dead(m.Function)}
	for _, stream := range streams {
		publish = append(append(publish, subjects.PullNext(stream, m.Function)), subjects.Acks(stream, m.Function)...)
		if stream != subjects.StreamJobs {
			publish = append(publish, subjects.DirectRead(stream))
		}
	}
	if m.Jobs {
		waiting := subjects.Schedule(m.Function, "*")
		publish = append(publish, subjects.Job(m.Function, "*"), waiting, subjects.DirectReadLast(subjects.StreamJobs, waiting))
	}
	return publish
}

// supplying returns what makes, shows and changes the consumers of all functions; remove says that it may remove them too.
func supplying(remove bool) []string {
	var publish []string
	for _, stream := range append(messageStreams(), subjects.StreamJobs) {
		change := subjects.ChangeConsumer(stream, "*")
		if !remove {
			change = change[:len(change)-1]
		}
		publish = append(append(publish, change...), subjects.ConsumerReads(stream)...)
	}
	return publish
}

// reviving returns what an operator publishes to look at dead letters, hand over again what they are about, and forget them.
func reviving() []string {
	return append(reads(subjects.StreamDeadLetters), subjects.EraseMessage(subjects.StreamDeadLetters), subjects.AllJobs)
}
