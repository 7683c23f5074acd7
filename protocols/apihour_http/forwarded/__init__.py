"""Who a request came from when a proxy stands between, as far as that proxy is believed."""
