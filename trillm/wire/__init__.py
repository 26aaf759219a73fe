"""HTTP/1.1 both ways, and the control plane's HTTP."""
