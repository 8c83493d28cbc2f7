package functions_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/confab-im/confab/functions"
	"github.com/confab-im/confab/subjects/wire"
)

// Roll is the data of dice.roll.
type Roll struct {
	Sides int `json:"sides"`
}

// Validate is called before the handler.
func (r *Roll) Validate() error {
	if r.Sides < 2 || r.Sides > 100 {
		return wire.Errorf(wire.BadData, "sides must be 2 to 100.")
	}
	return nil
}

// Rolled is the answer to Roll.
type Rolled struct {
	Shown int    `json:"shown"`
	By    string `json:"by"`
}

// dice is a function with one public method. Its dice are loaded, for an example must print the same each time.
func dice() functions.Function {
	return functions.Function{
		Name: "dice", Description: "Rolls dice",
		Methods: []functions.Method{
			{Name: "roll", Description: "Rolls one die", Public: true, Request: Roll{}, Response: Rolled{}},
		},
		New: func(context.Context, functions.Env) (functions.Handlers, error) {
			return functions.Handlers{"roll": functions.Handle(roll)}, nil
		},
	}
}

func roll(_ context.Context, call *functions.Call, in *Roll) (Rolled, error) {
	return Rolled{Shown: in.Sides, By: string(call.User)}, nil
}

// A handler gets its request decoded and validated, and the identity that the edge has verified.
func ExampleHandle() {
	handler := functions.Handle(roll)
	out, err := handler(context.Background(), &functions.Call{User: "ada", Data: []byte(`{"sides":6}`)})
	fmt.Println(out, err)
	_, err = handler(context.Background(), &functions.Call{User: "ada", Data: []byte(`{"sides":1}`)})
	fmt.Println(err)
	// Output:
	// {6 ada} <nil>
	// bad_data: sides must be 2 to 100.
}

// A handler of entries gets each at least once. What it does must stand a repeat: conversation and seq tell one.
func ExampleHandleEntry() {
	greeted := map[string]bool{}
	handler := functions.HandleEntry(func(_ context.Context, call *functions.Call, e *wire.Entry) error {
		key := fmt.Sprintf("%s/%d", e.Conversation, e.Seq)
		if greeted[key] {
			fmt.Println("once more:", key, "try", call.Attempt)
			return nil
		}
		greeted[key] = true
		fmt.Println("hello", e.From)
		return errors.New("comes again")
	})
	for try := range 2 { // the runtime does this
		_, err := handler(context.Background(), &functions.Call{Attempt: try + 1, Data: []byte(`{"conversation":"g.general","seq":57,"kind":"message","from":"ada","at":"2026-11-20T15:04:05.123Z"}`)})
		fmt.Println(err)
	}
	// Output:
	// hello ada
	// comes again
	// once more: g.general/57 try 2
	// <nil>
}

// A caller waits until an instance is up. It passes on in whose name it asks.
func ExampleInvoke() {
	nc, stop := exampleServer()
	defer stop()
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	left := make(chan error, 1)
	go func() { left <- functions.Run(ctx, dice(), functions.Env{NATS: nc}, functions.Options{}) }()

	caller, err := functions.NewCaller(nc, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer caller.Close()
	ada := &functions.Call{User: "ada"} // a handler passes its own call here
	rolled, err := functions.Invoke[Roll, Rolled](ctx, caller, ada, "dice", "roll", Roll{Sides: 20})
	fmt.Println(rolled.Shown, rolled.By, err)
	_, err = functions.Invoke[Roll, Rolled](ctx, caller, nil, "dice", "roll", Roll{Sides: 20})
	fmt.Println(wire.CodeOf(err))

	leave()
	fmt.Println(<-left)
	// Output:
	// 20 ada <nil>
	// unauthenticated
	// <nil>
}

// exampleServer returns a connection to a NATS server in this process.
func exampleServer() (nc *nats.Conn, stop func()) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		panic(err)
	}
	ns.Start()
	ns.ReadyForConnections(20 * time.Second)
	if nc, err = nats.Connect(ns.ClientURL()); err != nil {
		panic(err)
	}
	return nc, func() { nc.Close(); ns.Shutdown(); ns.WaitForShutdown() }
}
