public import CloudMountVFS
public import Logging

/// What all mounts of one endpoint share: how many calls it takes at a time, how many retries it is worth, whether it is
/// worth calling at all, and what an account's caps forbid.
public final class EndpointLoad: Sendable {
    /// For the log and `status`, such as `s3 https://s3.eu-west-1.amazonaws.com`.
    public let name: String
    public let limit: ConcurrencyLimit
    public let budget = RetryBudget()
    public let breaker: CircuitBreaker
    /// Of mounts whose quota is not the bucket's own.
    public let caps: Caps

    public init(
        _ name: String, maxConcurrency: Int = 96, logger: Logger = Logger(label: "cloudmount.store"),
        environment: RetryEnvironment = .system
    ) {
        self.name = name
        var named = logger
        named[metadataKey: "endpoint"] = "\(name)"
        caps = Caps(logger: named, environment: environment)
        let limit = ConcurrencyLimit(maximum: maxConcurrency)
        self.limit = limit
        breaker = CircuitBreaker(name, logger: logger, environment: environment) { limit.dismissWaiters() }
    }
}

/// How the layers of one mount are set.
public struct LayerSettings: Sendable {
    /// Where the mount begins in the bucket: empty, or ending in `/`.
    public var prefix: ObjectKey
    public var retry: RetryPolicy
    /// Give mounts of one endpoint the same one.
    public var endpoint: EndpointLoad
    /// Failures go here; give it the mount's name as metadata.
    public var logger: Logger
    /// For tests.
    public var faults: Faults?
    public var environment: RetryEnvironment

    public init(
        prefix: ObjectKey = "", retry: RetryPolicy = RetryPolicy(), endpoint: EndpointLoad,
        logger: Logger = Logger(label: "cloudmount.store"), faults: Faults? = nil,
        environment: RetryEnvironment = .system
    ) {
        self.prefix = prefix
        self.retry = retry
        self.endpoint = endpoint
        self.logger = logger
        self.faults = faults
        self.environment = environment
    }

    /// The deadline of a mount's cache policy, with the usual retries.
    public static func retryPolicy(_ policy: CachePolicy) -> RetryPolicy {
        var retry = RetryPolicy()
        retry.deadline = policy.deadline
        return retry
    }
}

/// Stacks the layers in their one right order.
public enum Layers {
    /// From the outside in: prefix; caps; retry (with the failure log), which holds no slot while it pauses; reach; breaker; limit;
    /// measurement, so that times are the store's and not the queue's; faults; whichever provider is current.
    public static func stack(_ provider: any ObjectProvider, settings: LayerSettings) -> LayeredProvider {
        let measurements = Measurements()
        let log = FailureLog(settings.logger, endpoint: settings.endpoint.name)
        let caps =
            provider.capabilities.sharedQuota
            ? settings.endpoint.caps : Caps(logger: settings.logger, environment: settings.environment)
        let current = CurrentProvider(provider)
        let retry = LiveRetryPolicy(settings.retry)
        var stack: any ObjectProvider = CurrentLayer(current)
        if let faults = settings.faults { stack = FaultLayer(stack, faults) }
        stack = MeasureLayer(stack, into: measurements)
        let reach = Reach()
        let source = ProbeSource(stack, prefix: settings.prefix, reach: reach)
        stack = LimitLayer(stack, limit: settings.endpoint.limit)
        stack = BreakerLayer(
            stack, breaker: settings.endpoint.breaker, policy: retry, probing: source)
        stack = ReachLayer(inner: stack, reach: reach)
        stack = RetryLayer(
            stack, policy: retry, budget: settings.endpoint.budget, environment: settings.environment,
            isAlive: { await source.probe() == .answered }, observe: log.record)
        stack = CapLayer(stack, caps: caps)
        if !settings.prefix.isEmpty { stack = PrefixLayer(stack, prefix: settings.prefix) }
        return LayeredProvider(
            provider: stack, measurements: measurements, endpoint: settings.endpoint, caps: caps, current: current,
            retry: retry, reach: reach)
    }
}

/// A provider with its layers around it.
public struct LayeredProvider: Sendable {
    /// What a mount works with.
    public let provider: any ObjectProvider
    public let measurements: Measurements
    public let endpoint: EndpointLoad
    public let caps: Caps
    /// The provider at the bottom, to be replaced when credentials are.
    public let current: CurrentProvider
    /// To be replaced when the mount's policy is.
    public let retry: LiveRetryPolicy
    /// Whether calls go out at all.
    public let reach: Reach

    /// Calls are not made now: by command, for want of a first contact, or because the endpoint does not answer.
    public var isCutOff: Bool { reach.isCutOff || endpoint.breaker.isOpen }
}
