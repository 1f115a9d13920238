// the provider
