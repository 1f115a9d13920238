import CloudMountPlatform
import CloudMountVFS
import Glibc

/// Gives staged files, and directories, their places as objects.
struct DirectoryWriter: Sendable {
    let folder: Folder
    let records: DirectoryRecords
    let objects: DirectoryObjects
    let longestKey = Capabilities().maxKeyBytes

    func put(_ request: PutRequest, from source: any ByteSource) throws(VFSError) -> ObjectInfo {
        try check(request.key, request.metadata)
        if request.key.endsWithSlash, source.count == 0 {
            return try putFolder(request.key, request.metadata, request.precondition)
        }
        let staged = try StagedFile(in: records)
        try staged.fill(from: source)
        return try commit(staged, request.key, request.metadata, request.precondition)
    }

    func check(_ key: ObjectKey, _ metadata: ObjectMetadata) throws(VFSError) {
        if key.isEmpty { throw VFSError(.invalidName, "an object needs a key") }
        if key.byteCount > longestKey {
            throw VFSError(.nameTooLong, "a key of \(key.byteCount) bytes is longer than \(longestKey)")
        }
        try DirectoryRecord.check(metadata)
    }

    /// Makes a staged file the object of `key`: on the disk before it has its name, and in one step.
    func commit(
        _ staged: StagedFile, _ key: ObjectKey, _ metadata: ObjectMetadata, _ precondition: Precondition
    ) throws(VFSError) -> ObjectInfo {
        try staged.describe(metadata)
        try folder.sync(staged.file)
        var touched: [Descriptor] = []
        let info = try folder.exclusively { () throws(VFSError) -> ObjectInfo in
            try demand(precondition, key)
            try place(staged, key, &touched)
            let stored = try system("“\(key)”") { () throws(SystemError) in try objects.entry(staged.file, key) }
            guard let entry = stored else { throw DirectoryErrors.notFound(key) }
            return entry.info
        }
        for directory in touched { try folder.sync(directory) }
        return info
    }

    /// Under the lock.
    private func demand(_ precondition: Precondition, _ key: ObjectKey) throws(VFSError) {
        switch precondition {
        case .none: return
        case .absent: if try objects.find(key) == nil { return }
        case .match(let etag): if try objects.find(key)?.etag == etag { return }
        }
        throw DirectoryErrors.precondition(key)
    }

    /// Under the lock. At the plain path if that can be, else in the hidden area.
    private func place(_ staged: StagedFile, _ key: ObjectKey, _ touched: inout [Descriptor]) throws(VFSError) {
        let hidden = DirectoryPaths.hidden(key)
        if !key.endsWithSlash, let plain = DirectoryPaths.plain(key) {
            let (parent, name) = DirectoryPaths.split(plain)
            if let directory = try makeDirectories(parent, &touched), try staged.place(name, in: directory) {
                touched.append(directory)
                remove(hidden)
                return
            }
        }
        let (parent, name) = DirectoryPaths.split(hidden)
        guard let directory = try makeDirectories(parent, &touched), try staged.place(name, in: directory) else {
            throw VFSError(.invalidName, "the folder \(folder.path) cannot hold the key “\(key)”")
        }
        touched.append(directory)
    }

    /// Under the lock. Opens `path`, making what is missing of it.
    /// - Returns: nil when something on the way is no directory.
    func makeDirectories(_ path: String, _ touched: inout [Descriptor]) throws(VFSError) -> Descriptor? {
        do throws(SystemError) {
            do throws(SystemError) {
                return try folder.root.open(path, for: .directory)
            } catch {
                if error.code != ENOENT { throw error }
            }
            var directory = folder.root
            for name in ObjectKey(path).names {
                let isNew = mkdirat(directory.raw, name, 0o777) == 0
                if !isNew, errno != EEXIST { throw SystemError(errno) }
                if isNew { touched.append(directory) }
                directory = try directory.open(name, for: .directory)
                if isNew { try records.write(DirectoryRecord(isImplicit: true), of: directory) }
            }
            return directory
        } catch {
            if [ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL, EILSEQ].contains(error.code) { return nil }
            throw DirectoryErrors.map(error, "making \(path) in \(folder.path)")
        }
    }

    /// An empty object whose key ends in a slash is the directory itself.
    func putFolder(
        _ key: ObjectKey, _ metadata: ObjectMetadata, _ precondition: Precondition
    ) throws(VFSError) -> ObjectInfo {
        var touched: [Descriptor] = []
        let info = try folder.exclusively { () throws(VFSError) -> ObjectInfo? in
            try demand(precondition, key)
            guard let plain = DirectoryPaths.plain(key), let directory = try makeDirectories(plain, &touched) else {
                return nil
            }
            let entry = try system("“\(key)”") { () throws(SystemError) in
                try records.write(DirectoryRecord(metadata: metadata), of: directory)
                return try objects.entry(directory, key)
            }
            remove(DirectoryPaths.hidden(key))
            return entry?.info
        }
        for directory in touched { try folder.sync(directory) }
        if let info { return info }
        return try commit(StagedFile(in: records), key, metadata, precondition)
    }

    /// Under the lock. Removes an object of the hidden area, if it is there, with the directories made for it.
    func remove(_ hidden: String) {
        var (parent, name) = DirectoryPaths.split(hidden)
        guard let directory = try? folder.root.open(parent, for: .directory),
            let leaving = try? records.leaving(name, in: directory), unlinkat(directory.raw, name, 0) == 0
        else { return }
        records.remove(leaving)
        while !parent.utf8.elementsEqual(DirectoryPaths.keys.utf8) {
            (parent, name) = DirectoryPaths.split(parent)
            guard let above = try? folder.root.open(parent, for: .directory),
                unlinkat(above.raw, name, AT_REMOVEDIR) == 0
            else { return }
        }
    }
}
