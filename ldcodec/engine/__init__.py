"""The float networks on CPUs through ncnn: less than half of torch's time, and a tenth of the time to start."""
