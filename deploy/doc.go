// Package deploy holds no code of its own: its tests keep the rules that cross folders, such as who may import whom and how long a file may be. The
// packages below it say how confab runs.
package deploy
