import B2Provider
public import CloudMountVFS
import DirectoryProvider
import MemoryProvider
import S3Provider
import WebDAVProvider

/// THE LIST: what may stand after `provider:` in `mounts.yaml`.
public let builtinProviders: [ProviderDescriptor] = [
    S3Provider.descriptor, B2Provider.descriptor, DirectoryProvider.descriptor, MemoryProvider.descriptor,
    WebDAVProvider.descriptor,
]
