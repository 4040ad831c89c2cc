"""The variants by name. Strings, so that listing them imports nothing heavy."""

VARIANTS: dict[str, str] = {
    "gan": "lit_gan.variants.gan:GAN",
    "dcgan": "lit_gan.variants.dcgan:DCGAN",
    "wgan": "lit_gan.variants.wgan:WGAN",
    "cgan": "lit_gan.variants.cgan:CGAN",
    "acgan": "lit_gan.variants.acgan:ACGAN",
    "infogan": "lit_gan.variants.infogan:InfoGAN",
    "wgan-gp": "lit_gan.variants.wgan_gp:WGANGP",
    "stylegan2": "lit_gan.variants.stylegan2:StyleGAN2",
    "progan": "lit_gan.variants.progan:ProGAN",
    "stylegan": "lit_gan.variants.stylegan:StyleGAN",
    "sngan": "lit_gan.variants.sngan:SNGAN",
    "sagan": "lit_gan.variants.sagan:SAGAN",
    "biggan": "lit_gan.variants.biggan:BigGAN",
    "r3gan": "lit_gan.variants.r3gan:R3GAN",
    "pix2pix": "lit_gan.variants.pix2pix:Pix2Pix",
    "pix2pixhd": "lit_gan.variants.pix2pixhd:Pix2PixHD",
    "gat": "lit_gan.variants.gat:GAT",
    "cyclegan": "lit_gan.variants.cyclegan:CycleGAN",
    "cut": "lit_gan.variants.cut:CUT",
}
