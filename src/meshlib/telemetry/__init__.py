"""What others see of a call: spans, Istio's metrics, trace headers, and an access log; through OpenTelemetry's API."""
