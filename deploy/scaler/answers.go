package scaler

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/confab-im/confab/deploy/scaler/externalscaler"
)

const (
	pushEvery = time.Second            // while calls are held: a push may be lost on its way to the replicas
	pushApart = 100 * time.Millisecond // at least, whatever happens in between
)

// IsActive answers KEDA's poll. It never says no before it has listened for long enough: KEDA would take instances away.
func (s *Scaler) IsActive(ctx context.Context, ref *externalscaler.ScaledObjectRef) (*externalscaler.IsActiveResponse, error) {
	t, err := s.known(ctx, ref)
	if err != nil {
		return nil, err
	}
	active := t.function == "" || t.active(s.watcher.Of(t.function)) // edges never sleep
	if !active && !s.watcher.Settled() {
		return nil, unsettled()
	}
	return &externalscaler.IsActiveResponse{Result: active}, nil
}

// StreamIsActive pushes true at once when work waits, and once a second for as long as it does. It never pushes false: KEDA learns that from
// IsActive, and one lost or early false costs more than a late one.
func (s *Scaler) StreamIsActive(ref *externalscaler.ScaledObjectRef, stream grpc.ServerStreamingServer[externalscaler.IsActiveResponse]) error {
	t, err := s.known(stream.Context(), ref)
	if err != nil {
		return err
	}
	if t.function == "" {
		return status.Error(codes.Unimplemented, "Edges never sleep, so there is nothing to push: their trigger is of the type external.")
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	for {
		changed := s.watcher.Changed(t.function)
		next := pushEvery
		if s.watcher.Of(t.function).Waits() {
			if rest := pushApart - time.Since(last); rest > 0 {
				next = rest
			} else {
				if err := stream.Send(&externalscaler.IsActiveResponse{Result: true}); err != nil {
					return err
				}
				last = time.Now()
				s.figures.pushed(t.function)
			}
		}
		timer.Reset(next)
		select {
		case <-changed:
		case <-timer.C:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-s.stopping:
			return nil // what KEDA sees is the end of the stream, and no error
		}
	}
}

// GetMetricSpec answers that one instance takes as many calls as it works on at once, and an edge as many connections as its trigger says.
func (s *Scaler) GetMetricSpec(ctx context.Context, ref *externalscaler.ScaledObjectRef) (*externalscaler.GetMetricSpecResponse, error) {
	t, err := s.known(ctx, ref)
	if err != nil {
		return nil, err
	}
	if t.concurrency == 0 {
		return nil, status.Errorf(codes.Unavailable, "How many calls an instance of %s works on at once is not known: the registry cannot be read, and no instance is up.", t.function)
	}
	return &externalscaler.GetMetricSpecResponse{MetricSpecs: []*externalscaler.MetricSpec{
		{MetricName: t.metric(), TargetSize: int64(t.concurrency), TargetSizeFloat: float64(t.concurrency)},
	}}, nil
}

// GetMetrics answers how many calls there were to work on at once, at most, since the autoscaler asked last, or how many connections
// edges have now.
func (s *Scaler) GetMetrics(ctx context.Context, request *externalscaler.GetMetricsRequest) (*externalscaler.GetMetricsResponse, error) {
	t, err := s.known(ctx, request.GetScaledObjectRef())
	if err != nil {
		return nil, err
	}
	value, sure := 0, s.watcher.Settled()
	if t.function == "" {
		if value, sure, err = s.edges.connections(ctx); err != nil {
			return nil, status.Errorf(codes.Unavailable, "Edges cannot be asked: %v.", err)
		}
	} else {
		value = s.watcher.Of(t.function).BusyLately()
	}
	if !sure {
		return nil, unsettled()
	}
	return &externalscaler.GetMetricsResponse{MetricValues: []*externalscaler.MetricValue{
		{MetricName: t.metric(), MetricValue: int64(value), MetricValueFloat: float64(value)},
	}}, nil
}
