package jetstream

import (
	"context"
	"fmt"
	"time"

	"github.com/confab-im/confab/subjects"
)

// forgetPatience is how long a server may take to remove what earlier builds left.
const forgetPatience = 2 * time.Minute

// forgetFormerCursors removes the marks that earlier builds kept a second time, in one request however many there are. It may be repeated.
func (s *Store) forgetFormerCursors(ctx context.Context) error {
	var answer struct {
		Error *apiError `json:"error"`
	}
	request := struct {
		Filter string `json:"filter"`
	}{subjects.BucketSubject(subjects.BucketCursors, subjects.FormerCursors)}
	err := s.askWithin(ctx, subjects.PurgeStream(subjects.BucketStream(subjects.BucketCursors)), request, &answer, forgetPatience)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err != nil {
		return fmt.Errorf("remove marks that an earlier build kept a second time: %w", err)
	}
	return nil
}
