{
  # Stands in for nixpkgs in scripts/nix.mjs, so that flake.nix can be evaluated without a network. Nothing here can be built.
  # Before you add a name, look up that the nixpkgs of flake.lock has it.
  outputs = { self }:
    let
      genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);

      lib = {
        inherit genAttrs;
        optional = condition: value: if condition then [ value ] else [ ];
        getExe = package: "${package}/bin/${package.meta.mainProgram}";
      };

      names = [
        "apacheKafka_4_1"
        "buf"
        "grpcurl"
        "kcat"
        "makeWrapper"
        "nodejs_24"
        "postgresql_18"
        "redis"
        "util-linux"
      ];

      packages = system:
        let
          # a derivation evaluates all of its attributes
          package = name: attributes:
            derivation (attributes // { inherit name system; builder = "/bin/sh"; }) // { meta.mainProgram = name; };
        in
        genAttrs names (name: package name { }) // {
          inherit lib;
          stdenv = {
            hostPlatform = { inherit system; isLinux = builtins.match ".*-linux" system != null; };
            mkDerivation = { pname, version, src, meta ? { }, ... }@attributes:
              package "${pname}-${version}" (removeAttrs attributes [ "meta" ]) // { inherit meta; };
          };
          mkShell = { packages }: package "nix-shell" { inherit packages; };
          writeShellApplication = { name, runtimeInputs, text }: package name { inherit runtimeInputs text; };
          # like that of nixpkgs, this needs address and checksum of each package in the lock file
          importNpmLock = {
            npmConfigHook = package "npm-config-hook" { };
            __functor = _: { npmRoot, package, packageLock }:
              let
                archive = path: { resolved, integrity, ... }: "${resolved} ${integrity}";
                installed = builtins.mapAttrs archive (removeAttrs packageLock.packages [ "" ]);
                direct = package.dependencies // package.devDependencies;
              in
              derivation {
                name = "npm-deps";
                inherit system npmRoot;
                builder = "/bin/sh";
                installed = builtins.attrValues installed;
                direct = map (name: installed."node_modules/${name}") (builtins.attrNames direct);
              };
          };
        };
    in
    {
      inherit lib;
      legacyPackages = genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] packages;
    };
}
