// Package supervisor runs functions as child processes of one machine: it starts instances when there is work, as many as the work needs and the
// manifests allow, lets those that idle leave, replaces those that crash, and ends with all of them.
//
// How much work there is it takes from package load, and whether an instance is up from what the instance says on NATS, so that a function can be written in
// any language. It does not pass calls on: callers hold them until an instance is up.
package supervisor
