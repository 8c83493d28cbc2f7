package bench

import (
	"context"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// crowd is people who are connected, and what their sockets get.
type crowd struct {
	people  []person
	sockets []*socket
	mail    *mail
}

// crowd connects n people; every entry that comes is taken for one that its receiver should get.
func (s *system) crowd(ctx context.Context, n int) (*crowd, error) {
	people, err := s.gather(ctx, n)
	if err != nil {
		return nil, err
	}
	c := &crowd{people: people, sockets: make([]*socket, n), mail: newMail(s.run)}
	heard := entryOnly(func(data []byte) {
		if lane, count, ok := c.mail.lane(data); ok {
			c.mail.receive(lane, count)
		}
	})
	err = parallel(ctx, n, func(i int) (err error) {
		s.run.step("connecting")
		c.sockets[i], err = s.connectAs(ctx, people[i], "bench-1", heard)
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *crowd) close() { closeAll(c.sockets) }

// group makes groups of size members out of a crowd: the first ones, the next ones, and so on. The first member of each may post there; the lanes of mail
// are in that order.
func (s *system) group(ctx context.Context, c *crowd, size int) (made []subjects.Conversation, err error) {
	made = make([]subjects.Conversation, len(c.people)/size)
	err = parallel(ctx, len(made), func(i int) error {
		s.run.step(fmt.Sprintf("making groups of %d", size))
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		var members []subjects.User
		for _, p := range c.people[i*size+1 : (i+1)*size] {
			members = append(members, p.user)
		}
		id := fmt.Sprintf("b%s-%d-%d", s.run.mark, size, i)
		var info wire.ConversationInfo
		err := c.sockets[i*size].do(ctx, "conversations.create", wire.Create{Kind: subjects.KindGroup, ID: id, Title: fmt.Sprintf("%d of %d", i, size), Members: members}, &info)
		made[i] = info.Conversation
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make groups of %d: %w", size, err)
	}
	return made, nil
}
