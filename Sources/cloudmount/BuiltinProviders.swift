import CloudMountVFS
import DirectoryProvider
import MemoryProvider

/// THE LIST: what may stand after `provider:` in `mounts.yaml`.
let builtinProviders: [ProviderDescriptor] = [
    DirectoryProvider.descriptor, MemoryProvider.descriptor,
]
