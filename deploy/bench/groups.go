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
	err = parallel(ctx, n, func(i int) error {
		s.run.step("connecting")
		return patiently(ctx, func() (err error) {
			c.sockets[i], err = s.connectAs(ctx, people[i], "bench-1", heard)
			return err
		})
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
	err = parallel(ctx, len(made), func(i int) (err error) {
		s.run.step(fmt.Sprintf("making groups of %d", size))
		made[i], err = s.found(ctx, c.sockets[i*size], c.people[i*size:(i+1)*size], fmt.Sprintf("%d-%d", size, i))
		return err
	})
	return made, err
}

// found makes one group; the first of its people does so, over a connection.
func (s *system) found(ctx context.Context, founder *socket, people []person, name string) (subjects.Conversation, error) {
	var members []subjects.User
	for _, p := range people[1:] {
		members = append(members, p.user)
	}
	create := wire.Create{Kind: subjects.KindGroup, ID: "b" + s.run.mark + "-" + name, Title: name, Members: members}
	made, err := subjects.NewConversation(create.Kind, create.ID)
	if err != nil {
		return "", err
	}
	err = patiently(ctx, func() error {
		err := founder.ask(ctx, "conversations.create", create, nil)
		if wire.CodeOf(err) == wire.Conflict { // the try before was not in vain: nobody else uses this name
			return nil
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make a group of %d: %w", len(people), err)
	}
	return made, nil
}
