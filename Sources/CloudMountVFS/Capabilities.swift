/// What one store can do, as data: limits, and features proved rather than promised. The core plans by it alone.
///
/// Start from `Capabilities()` (the least that any store does) and raise what yours has.
public struct Capabilities: Sendable, Equatable, Codable {
    // MARK: Limits, in bytes unless said otherwise

    /// Longest key.
    public var maxKeyBytes = 1024
    /// Longest piece of a key between slashes.
    public var maxNameBytes = 255
    /// Names and values of `ObjectMetadata.user` together; the nonce does not count.
    public var maxMetadataBytes = 2048
    /// How many more there may be of what has neither a modification time nor a nonce.
    public var reservedMetadataBytes = 0
    /// Largest object of one `put`.
    public var maxPutSize = 5 << 30
    /// Largest source of one `copy`.
    public var maxCopySize = 5 << 30
    /// Smallest part of an upload; the last one may be smaller.
    public var minPartSize = 5 << 20
    public var maxPartSize = 5 << 30
    /// Parts in one upload, at least and at most.
    public var minParts = 1
    public var maxParts = 10_000
    public var maxObjectSize = 5 << 40
    /// Keys in one `delete`.
    public var maxDeleteKeys = 1
    /// Objects and common prefixes in one `ListPage`.
    public var maxListKeys = 1000

    // MARK: Features

    /// Keys are names and no paths: `x` may be there beside `x/y`, and a key that ends in `/` may have bytes. Where folders are
    /// real, a name is one or the other.
    public var filesBesideFolders = true
    /// What stands between slashes in a key may be empty, `.`, `..`, or longer than `maxNameBytes`.
    public var oddSegments = true
    /// Keys may hold the control characters of ASCII.
    public var controlCharacters = true
    /// `beginUpload` and its kin work.
    public var multipart = false
    /// All parts of an upload but the last must be of one size (Cloudflare R2).
    public var equalParts = false
    /// `completeUpload` sets the metadata that its `Upload` carries, in one step with the object: a file that was sent while it
    /// was written has its times without a copy.
    public var completeSetsMetadata = false
    /// `copy` is done by the store.
    public var serverCopy = false
    /// `move` gives an object another key: nothing is copied and nothing deleted. Version and precondition are held to as by `copy`: in one
    /// step with `conditionalCopy`, else they are looked at just before.
    public var moves = false
    /// `move` gives a folder another key with everything in it, also what no key can say. What is in it keeps its version (ETag) and its
    /// metadata. The store itself refuses it where the destination has anything.
    public var movesFolders = false
    /// `copyPart` works: unchanged ranges of a large object need not travel.
    public var rangeCopy = false
    /// `put` and `completeUpload` honour `.absent` in one step with the write. Without it, and without the three that
    /// follow, the provider compares just before.
    public var conditionalCreate = false
    /// `put` and `completeUpload` honour `.match` in one step with the write.
    public var conditionalReplace = false
    /// `copy` honours the precondition of its destination in one step.
    public var conditionalCopy = false
    /// `delete` honours the version in one step.
    public var conditionalDelete = false
    /// `read` refuses bytes of another version than the one asked for.
    public var pinnedRead = false
    /// `read` of a version that has been replaced or deleted gives that version's bytes, for as long as the store has
    /// them (B2); else it is `stale`.
    public var readsOldVersions = false
    /// What `delete` takes away is such a version afterwards.
    public var deleteKeepsVersion = false
    /// A ranged `read` sends only the range.
    public var rangedRead = true
    /// `ListPage` objects carry `metadata`.
    public var listingCarriesMetadata = false
    /// There are no round trips to save: to look at a key, and whether there is anything below it, costs less than to list the names that
    /// begin alike.
    public var cheapLooks = false
    /// Listings come in byte order of the keys.
    public var sortedListing = false
    /// No two versions of a key that differ have one ETag.
    public var distinctTags = true
    /// The tag of an uploaded part tells its bytes: what another request left under its number is refused when the upload is completed.
    /// Where it does not, nothing is completed of which a part has changed since it was sent.
    public var partTagsAreOfBytes = true
    /// Objects whose key ends in `/` keep their metadata.
    public var folderObjects = true
    /// Objects whose key ends in `/` are taken at all. Where they are not, empty directories last as long as the mount.
    public var emptyFolders = true
    /// Folders are things of their own: one is there without an object in it, is listed as an object of the key with a slash whether or not
    /// there is something in it, and is removed only when it is empty (`notEmpty` otherwise). A name is a file or a folder,
    /// not both. Goes with `emptyFolders`.
    public var realFolders = false
    /// Objects that stand for folders look like files to other tools (B2's `.bzEmpty`).
    public var visibleFolders = false
    /// Modification time, user metadata, content type and headers come back as given. Without it the core keeps no attributes, and refuses
    /// what needs them (links, special files, chmod, chown, extended attributes); times are taken, and may be forgotten at the next look.
    public var metadata = true
    /// Old versions can be listed and read.
    public var versions = false
    /// `space` tells how much room there is.
    public var tellsSpace = false
    /// What `quotaExceeded` says holds for all mounts of the endpoint: caps are the account's.
    public var sharedQuota = false

    // MARK: What this mount may not

    /// Why the credentials allow no writing, for a person; nil when they do.
    public var readOnlyReason: String?

    public init() {}

    /// Whether mode, owner and extended attributes of a folder or of anything else outlast the mount.
    public func keepsAttributes(ofFolder isFolder: Bool) -> Bool {
        metadata && !(isFolder && realFolders && !folderObjects)
    }
}
