import B2Provider
import CloudMountVFS
import DirectoryProvider
import MemoryProvider
import S3Provider

/// THE LIST: what may stand after `provider:` in `mounts.yaml`.
let builtinProviders: [ProviderDescriptor] = [
    S3Provider.descriptor, B2Provider.descriptor, DirectoryProvider.descriptor, MemoryProvider.descriptor,
]
