"""Who looks at a company's members in a scan."""
