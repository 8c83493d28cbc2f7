// Package externalscaler is the protocol between KEDA's operator and its external scalers, generated from the .proto file beside it. What is
// answered is decided by package scaler.
package externalscaler
