# Nodes from Terraform, through Pawl's API and a generic REST provider.
#
# UNTRIED: no Terraform runs where Pawl is built. It is written from the documentation of Mastercard/restapi 2.0 and from
# docs/api.md; a test holds the field names against Pawl's OpenAPI document. Say so when you have tried it.
#
#   export TF_VAR_pawl_token="$(cat /run/secrets/pawl-token)"    # a token of the role "operator"
#   terraform init && terraform plan

terraform {
  required_providers {
    restapi = {
      source  = "Mastercard/restapi"
      version = "~> 2.0"
    }
  }
}

variable "pawl_url" {
  description = "The operator listener, as https://boot.example.com:8444."
  type        = string
}

variable "pawl_ca" {
  description = "The server's ca.crt."
  type        = string
}

variable "pawl_token" {
  description = "An operator token. It ends up in no state file: the provider sends it as a header."
  type        = string
  sensitive   = true
}

provider "restapi" {
  uri                  = "${var.pawl_url}/api/v1"
  root_ca_file         = var.pawl_ca
  headers              = { Authorization = "Bearer ${var.pawl_token}", Content-Type = "application/json" }
  id_attribute         = "name"
  create_method        = "POST"
  update_method        = "PATCH"
  destroy_method       = "DELETE"
  write_returns_object = true
}

variable "nodes" {
  description = "The machines, by host name."
  type = map(object({
    macs      = list(string)
    addresses = list(string)
    profile   = string
    labels    = map(string)
  }))
  default = {
    "mlab1.lga01" = {
      macs      = ["52:54:00:12:34:56"]
      addresses = ["192.0.2.1"]
      profile   = "worker"
      labels    = { site = "lga" }
    }
  }
}

resource "restapi_object" "node" {
  for_each = var.nodes
  path     = "/nodes"

  data = jsonencode({
    name      = each.key
    macs      = each.value.macs
    addresses = each.value.addresses
    profile   = each.value.profile
    labels    = each.value.labels
  })

  # A node keeps its name: PATCH does not take it. Labels are merged: to take one away, set it to null here for once.
  update_data = jsonencode({
    macs      = each.value.macs
    addresses = each.value.addresses
    profile   = each.value.profile
    labels    = each.value.labels
  })

  # What boots and other commands change of a node is no drift.
  ignore_changes_to = [
    "uuid", "serial", "state", "failureCause", "reinstall", "reinstallAttempts",
    "campaign", "armed", "secret", "session", "revision", "createdAt", "updatedAt", "waiting", "pace", "looping", "leaving",
    "wireguardPublicKey", "warnings",
  ]
}
