"""The variants by name. Strings, so that listing them imports nothing heavy."""

VARIANTS: dict[str, str] = {
    "gan": "lit_gan.variants.gan:GAN",
    "dcgan": "lit_gan.variants.dcgan:DCGAN",
    "wgan-gp": "lit_gan.variants.wgan_gp:WGANGP",
    "progan": "lit_gan.variants.progan:ProGAN",
    "stylegan": "lit_gan.variants.stylegan:StyleGAN",
    "stylegan-lite": "lit_gan.variants.stylegan_lite:StyleGANLite",
    "r3gan": "lit_gan.variants.r3gan:R3GAN",
}
