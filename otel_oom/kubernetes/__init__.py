"""What is asked of a Kubernetes API server or kubelet, and what a cgroup's path tells of a pod."""
